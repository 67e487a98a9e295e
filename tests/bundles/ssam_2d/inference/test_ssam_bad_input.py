# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Bad input is refused before the first image is segmented: what was given, what was expected."""

import nibabel as nib
import numpy as np
import pytest
import torch
from pictures import gradient
from PIL import Image
from small_sam import sam_state, small_sam


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(gradient(3)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_images(refused, tmp_path, picture):
    refused("no image was given: expected --image", image=None)
    refused("image is 3: expected a path", image=3)
    refused("or a dictionary with the key image", image=[{"labels": ["red"]}])
    refused("missing.png: no such file; expected PNG", image=tmp_path / "missing.png")
    (tmp_path / "empty").mkdir()
    refused("none of the 0 files in this folder is an image", image=tmp_path / "empty")
    (tmp_path / "empty" / "notes.txt").write_text("nothing")
    refused("none of the 1 files in this folder is an image", image=tmp_path / "empty")
    (tmp_path / "same").mkdir()
    for suffix in (".png", ".bmp"):
        Image.fromarray(gradient(3)).save(tmp_path / "same" / f"x{suffix}")
    refused("several images are named x", image=tmp_path / "same")


def test_one_unreadable_image_of_a_folder_stops_the_run_before_the_others(refused, tmp_path, colour_network):
    for name in "abc":
        Image.fromarray(gradient(3)).save(tmp_path / f"{name}.png")
    (tmp_path / "z.png").write_text("no image")
    refused("z.png: cannot be read", image=[str(tmp_path / f"{n}.png") for n in "abcz"])
    (tmp_path / "z.nii.gz").write_bytes(b"no volume")
    refused("z.nii.gz: cannot be read", image=[str(tmp_path / "a.png"), str(tmp_path / "z.nii.gz")])
    assert colour_network.encoded == 0


def test_truncated_files_and_several_channels(refused, tmp_path, picture):
    picture.write_bytes(picture.read_bytes()[:-200])
    refused("a.png: cannot be read", image=picture)
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 2), np.int16), np.eye(4)), tmp_path / "b.nii.gz")
    refused("b.nii.gz: values of shape .*expected a volume of one channel", image=tmp_path / "b.nii.gz")
    nib.save(nib.Nifti1Image(np.full((4, 5, 6), 7, np.int16), np.eye(4)), tmp_path / "c.nii.gz")
    refused("c.nii.gz: .*contrast", image=tmp_path / "c.nii.gz")


def test_labels(refused, picture, colour_network):
    refused(
        "unknown label 'rde': the network knows red, green, blue, bright; 'rde' is near to red",
        image=picture,
        labels=["rde"],
    )
    refused("labels is 3: expected a list of names", image=picture, labels=3)
    refused(r"labels is \['red', 1\]", image=picture, labels=["red", 1])
    items = [str(picture), {"image": str(picture.with_name("b.png")), "labels": ["pink"]}]
    Image.fromarray(gradient(3)).save(picture.with_name("b.png"))
    refused("unknown label 'pink'", image=items)
    assert colour_network.encoded == 0


@pytest.mark.parametrize(
    ("prompts", "reason"),
    [
        ({"foreground": [[40, 5]]}, r"lies outside .*\[30, 19, 0\].*in a 2D image: \[x, y\]"),
        ({"foreground": [[4, 5, 1]]}, "lies outside"),
        ({"background": [[4, 5]]}, "nothing says where the object is"),
        ({"points": [[4, 5], [6, 7]], "point_labels": [1]}, "2 points and point_labels"),
        ({"box": [20, 3, 4, 9]}, "minimum above its maximum"),
        (
            {"objects": {"a": {"scribble": "a.png"}}},
            "a scribble, a lasso or a mask was given; expected names",
        ),
        ({"objects": {"a": {"wrong": 1}}}, "has 'wrong'"),
    ],
)
def test_prompts(refused, picture, prompts, reason):
    refused(reason, image=picture, **prompts)


def test_more_clicks_and_objects_than_can_be_answered(refused, picture):
    refused("6 clicks: expected at most 5; max_clicks", image=picture, foreground=[[4, 5]] * 6, max_clicks=5)
    objects = {str(k): [[4, 5]] for k in range(3)}
    refused("3 objects: expected at most 2; max_objects", image=picture, objects=objects, max_objects=2)


def test_settings(refused, picture, tmp_path):
    refused("threshold is 1.5: expected a number between 0 and 1", image=picture, threshold=1.5)
    refused("overlay is 'maybe': expected true or false", image=picture, overlay="maybe")
    refused("output_ext is '.png': expected .nii", image=picture, output_ext=".png")
    refused("output_postfix is 'a/b': expected a part of a file's name", image=picture, output_postfix="a/b")
    refused("device 'gpu'", image=picture, device="gpu")
    refused(r"window is \[9, 3\]", image=picture, window=[9, 3])
    nib.save(nib.Nifti1Image(np.arange(60).reshape(3, 4, 5).astype(np.int16), np.eye(4)), tmp_path / "b.nii.gz")
    refused("slice_axis is 'transverse': expected auto, axial", image=tmp_path / "b.nii.gz", slice_axis="transverse")
    refused("would overwrite this image", image=picture, output_dir=str(tmp_path), output_postfix="")


def test_weights(refused, picture, tmp_path):
    settings = {"image": picture, "image_size": 32, "network_def": small_sam()}
    torch.save(small_sam(labels=["gland"]).state_dict(), tmp_path / "other.pt")
    refused("weights of another architecture: .* of another size", **settings, ckpt_path=tmp_path / "other.pt")
    torch.save({"conv.weight": torch.zeros(2)}, tmp_path / "conv.pt")
    refused("weights of another architecture: .* missing", **settings, ckpt_path=tmp_path / "conv.pt")
    refused("no such file, .*other.pt; expected the network's weights", **settings, ckpt_path=tmp_path / "none.pt")
    torch.save(small_sam().state_dict(), tmp_path / "model.pt")
    refused("image_size is 30: .*multiple of 16", **{**settings, "image_size": 30}, ckpt_path=tmp_path / "model.pt")
    torch.save(sam_state(small_sam()), tmp_path / "sam.pt")
    refused("no labels and no click or box was given", **settings, ckpt_path=tmp_path / "sam.pt")
    refused("unknown label 'polyp': the network knows none", **settings, labels="polyp", ckpt_path=tmp_path / "sam.pt")
    torch.save(sam_state(small_sam(width=32)), tmp_path / "wide.pt")
    refused("width 32, network_def is", **settings, box=[2, 3, 9, 9], ckpt_path=tmp_path / "wide.pt")
