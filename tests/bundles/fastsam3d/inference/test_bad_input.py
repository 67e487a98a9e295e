# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Bad input: the error says what was given and what was expected, and no half-written file stays."""

import errno
import gzip
import json
import re

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from volumes import Phantom, dice, grid_around, write_dicom, write_itk, write_nifti
from workflows import refusal

GRID = grid_around(np.diag([2.0, 2.0, 2.0]), (24, 22, 20))
BODY = Phantom(((12, -30, 45), (12, 10, 9)))
CLICK = [[12, 10, 10]]


@pytest.fixture
def image(tmp_path):
    return write_nifti(tmp_path / "image.nii.gz", BODY.image(GRID), GRID)


@pytest.fixture
def refused(run_workflow, tmp_path):
    """See :func:`workflows.refusal`."""
    return refusal(run_workflow, tmp_path / "refused", foreground=CLICK)


# ---- files


def test_no_image(refused):
    refused("no image was given.*expected --image", image=None)


@pytest.mark.parametrize("name", ["missing.nii.gz", "missing_folder"])
def test_missing_file(refused, tmp_path, name):
    refused(f"{name}.*no such file or folder.*expected a NIfTI", image=tmp_path / name)


def test_truncated_file(refused, image):
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])
    refused("image.nii.gz.*cannot be read.*expected a NIfTI", image=image)


def test_half_the_voxels(refused, tmp_path):
    file = write_nifti(tmp_path / "half.nii", BODY.image(GRID), GRID)
    file.write_bytes(file.read_bytes()[:20000])
    refused("half.nii.*cannot be read", image=file)


@pytest.mark.parametrize("content", [b"this is no image\n" * 40, b"", gzip.compress(b"nor is this" * 100, mtime=0)])
@pytest.mark.parametrize("name", ["text.nii.gz", "text.nrrd", "text.mha"])
def test_no_image_at_all(refused, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refused(f"{name}.*cannot be read.*expected a NIfTI", image=tmp_path / name)


def test_folder_without_images(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    refused("empty.*no DICOM image.*folder of one DICOM series", image=tmp_path / "empty")


def test_folder_of_two_series(refused, tmp_path):
    values = (5 * BODY.image(GRID)).astype(np.int16)
    write_dicom(tmp_path / "two", values, GRID, "1.2.826.0.1.3680043.9.1")
    write_dicom(tmp_path / "two", values, GRID, "1.2.826.0.1.3680043.9.2")
    refused("two.*more than one DICOM series.*1: CT.*2: CT", image=tmp_path / "two")


def test_two_images_of_one_name(refused, image, tmp_path):
    (tmp_path / "other").mkdir()
    write_nifti(tmp_path / "other" / "image.nii.gz", BODY.image(GRID), GRID)
    refused("image.*overwrite", image=[str(image), str(tmp_path / "other" / "image.nii.gz")])


@pytest.mark.parametrize("given", [5, [{"foreground": CLICK}]])
def test_image_of_the_wrong_kind(refused, given):
    refused("expected a (path|dictionary)", image=given)


# ---- voxels


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_few_voxels_without_a_number(run_bundle, tmp_path, wrong):
    values = BODY.image(GRID)
    values[0, :3, 0] = wrong
    file = write_nifti(tmp_path / "gaps.nii.gz", values, GRID)
    mask, summary = run_bundle(image=file, foreground=CLICK, window=[-100, 100])
    assert re.search("3 NaN or infinite voxels were replaced by -100", summary["notes"][0])
    assert dice(mask.get_fdata(), BODY.truth(GRID)) >= 0.98


def test_no_voxel_with_a_number(refused, tmp_path):
    file = write_nifti(tmp_path / "nan.nii.gz", np.full(GRID.shape, np.nan, np.float32), GRID)
    refused("nan.nii.gz.*no voxel is a finite number.*expected", image=file)


@pytest.mark.parametrize("value", [0, 7.5])
def test_constant_image(refused, tmp_path, value):
    file = write_nifti(tmp_path / "flat.nii.gz", np.full(GRID.shape, value, np.float32), GRID)
    refused(f"flat.nii.gz.*every voxel has the value {value}.*expected contrast", image=file)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_2d_picture(refused, tmp_path, mode):
    picture = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(picture).convert(mode).save(tmp_path / "photo.png")
    refused("photo.png.*2D image.*expected a 3D volume", image=tmp_path / "photo.png", foreground=[[1, 2, 0]])


def test_2d_nifti(refused, tmp_path):
    nib.save(nib.Nifti1Image(BODY.image(GRID)[:, :, 10], GRID.affine), tmp_path / "flat.nii.gz")
    refused("2D image of.*24, 22.*expected a 3D volume", image=tmp_path / "flat.nii.gz", foreground=[[1, 2, 0]])


def test_2d_itk(refused, tmp_path):
    import itk

    itk.imwrite(itk.image_from_array(BODY.image(GRID)[:, :, 10].copy()), str(tmp_path / "flat.nrrd"))
    refused("2D image.*expected a 3D volume", image=tmp_path / "flat.nrrd", foreground=[[1, 2, 0]])


@pytest.mark.parametrize("channels", [2, 3, 30])
def test_several_channels(refused, tmp_path, channels):
    values = np.repeat(BODY.image(GRID)[..., None], channels, axis=-1)
    file = write_nifti(tmp_path / "four.nii.gz", values, GRID)
    refused(f"four.nii.gz.*{channels} channels.*expected one", image=file)


def test_five_axes(refused, tmp_path):
    file = write_nifti(tmp_path / "five.nii.gz", BODY.image(GRID)[..., None, None].repeat(3, -1), GRID)
    refused("five.nii.gz.*expected (a 3D volume|one)", image=file)


# ---- prompts


@pytest.mark.parametrize("click", [[24, 0, 0], [0, -1, 0], [5, 5, 400], [float("nan"), 1, 1], [1e300, 0, 0]])
def test_click_outside(refused, image, click):
    refused(r"foreground.*outside the volume.*\[0, 0, 0\] to \[23, 21, 19\]", image=image, foreground=[click])


@pytest.mark.parametrize("nothing", [{}, {"foreground": []}, {"objects": {}}, {"background": [[1, 1, 1]]}])
def test_no_prompt(refused, image, nothing):
    refused("(no prompt was given|nothing says where).*expected", image=image, **{"foreground": None, **nothing})


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({"foreground": [[1, 2]]}, r"foreground is \[\[1, 2\]\].*list of \[i, j, k\]"),
        ({"foreground": [[1, 2, 3, 4]]}, "foreground is.*list of"),
        ({"foreground": [[1, 2, 3], [4, 5]]}, "foreground is.*list of"),
        ({"foreground": [["a", "b", "c"]]}, "foreground is.*list of"),
        ({"foreground": "the liver"}, "foreground is 'the liver'"),
        ({"foreground": 7}, "foreground is 7"),
        ({"foreground": {"x": 1}}, "foreground is"),
        ({"points": CLICK}, "1 points and point_labels None.*one label for each"),
        ({"points": CLICK, "point_labels": [1, 0]}, "1 points and point_labels.*one label for each"),
        ({"points": CLICK, "point_labels": [2]}, r"point_labels \[2\].*1 \(foreground\) or 0"),
        ({"points": CLICK, "point_labels": ["in"]}, "point_labels"),
        ({"point_labels": [1]}, "0 points and point_labels"),
        ({"points": CLICK, "point_labels": [0]}, "none of them foreground"),
        ({"box": [[1, 1, 1]]}, r"box is.*\[\[i, j, k\], \[i, j, k\]\]"),
        ({"box": [1, 2, 3, 4]}, "box is"),
        ({"box": "all"}, "box is 'all'"),
        ({"box": [[5, 5, 5], [9, 4, 9]]}, "minimum above its maximum"),
        ({"box": [[5, 5, 5], [9, 9, 90]]}, r"box corner \[9.0, 9.0, 90.0\] lies outside"),
        ({"scribble": 5}, "scribble is 5: expected a path"),
        ({"lasso": 5}, "lasso is 5: expected a path"),
        ({"previous_mask": [1, 2]}, r"previous_mask is \[1, 2\]: expected a path"),
        ({"objects": [CLICK]}, "objects is.*expected {name: prompts}"),
        ({"objects": {"a": {"foregruond": CLICK}}}, "object 'a' has 'foregruond'.*expected foreground"),
        ({"objects": {"a": CLICK, "b": [[1, 2]]}}, "b: foreground is"),
        ({"objects": {"a": {}}}, "a: nothing says where"),
        ({"objects": {"a": CLICK}, "box": [[1, 1, 1], [2, 2, 2]]}, "objects and box were both given"),
    ],
)
def test_prompts_of_the_wrong_form(refused, image, prompts, message):
    refused(message, image=image, **{"foreground": None, **prompts})


@pytest.mark.parametrize("key", ["scribble", "lasso", "previous_mask"])
class TestMaskFiles:
    def mask(self, tmp_path, values=None, grid=GRID):
        values = BODY.truth(grid) if values is None else values
        return str(write_nifti(tmp_path / "mask.nii.gz", values.astype(np.float32), grid))

    def test_missing(self, refused, image, key):
        refused("nowhere.nii.gz.*no such file", image=image, **{key: "nowhere.nii.gz"})

    def test_other_shape(self, refused, image, tmp_path, key):
        other = grid_around(np.diag([2.0, 2.0, 2.0]), (24, 22, 21))
        refused(r"\(24, 22, 21\) voxels.*\(24, 22, 20\)", image=image, **{key: self.mask(tmp_path, grid=other)})

    @pytest.mark.parametrize("change", ["shifted", "flipped"])
    def test_other_affine(self, refused, image, tmp_path, key, change):
        axes = [2.0, 2.0, 2.0] if change == "shifted" else [-2.0, 2.0, 2.0]
        other = grid_around(np.diag(axes), GRID.shape, (12, -30, 46) if change == "shifted" else (12, -30, 45))
        refused("affine is not that of the image", image=image, **{key: self.mask(tmp_path, grid=other)})

    @pytest.mark.parametrize("value", [0.5, -1, np.nan])
    def test_no_label_map(self, refused, image, tmp_path, key, value):
        refused(
            "expected whole numbers", image=image, **{key: self.mask(tmp_path, np.where(BODY.truth(GRID), value, 0))}
        )

    def test_empty(self, refused, image, tmp_path, key):
        refused("every voxel is 0", image=image, **{key: self.mask(tmp_path, np.zeros(GRID.shape))})


def test_scribble_of_background_alone(refused, image, tmp_path):
    strokes = write_nifti(tmp_path / "strokes.nii.gz", 2 * BODY.truth(GRID).astype(np.uint8), GRID)
    refused("strokes.nii.gz.*no voxel is 1.*expected 1 on the object", image=image, foreground=None, scribble=strokes)


def test_mask_in_another_format_on_the_same_grid_is_taken(run_bundle, image, tmp_path):
    mask = write_itk(tmp_path / "mask.nrrd", BODY.truth(GRID).astype(np.uint8), GRID)
    result, _ = run_bundle(image=image, previous_mask=mask, window=[-100, 100])
    assert dice(result.get_fdata(), BODY.truth(GRID)) >= 0.98


# ---- settings


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "", 3.5, ["cpu"]])
def test_unknown_device(refused, image, device):
    refused("device.*expected auto.*cpu", image=image, device=device)


def test_window_upside_down(refused, image):
    refused(r"window is \[300, 100\].*low < high", image=image, window=[300, 100])


@pytest.mark.parametrize("settings", [{"spacing": 0}, {"spacing": -1.5}])
def test_spacing_without_size(refused, image, settings):
    refused("spacing is .*: expected a number above 0", image=image, **settings)


@pytest.mark.parametrize("size", [0, 8, 12, 24, 30, 200])
def test_cube_that_no_patch_divides(refused, image, size):
    refused(f"cube_size is {size}: .*multiple of 16", image=image, cube_size=size)


@pytest.mark.parametrize("extension", [".png", "nii.gz", "", ".dcm"])
def test_unknown_output_ext(refused, image, extension):
    refused("output_ext.*expected .nii, .nii.gz", image=image, output_ext=extension)


def test_output_dir_is_a_file(refused, run_workflow, image, tmp_path):
    (tmp_path / "taken").write_text("mine")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "below"):
        refused("output_dir.*taken is a file.*expected a folder", image=image, output_dir=str(folder))
    assert (tmp_path / "taken").read_text() == "mine"


def test_output_dir_without_permission(refused, image, tmp_path, monkeypatch):
    # Tests may run as root, who may write anywhere: the system's answer is replaced.
    def denied(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", denied)
    refused("output_dir.*not writable.*expected a folder", image=image)


def test_mask_would_overwrite_the_image(refused, image):
    before = image.read_bytes()
    refused("would overwrite this image", image=image, output_dir=str(image.parent), output_postfix="")
    assert image.read_bytes() == before


def test_a_failure_while_writing_leaves_nothing(run_workflow, image, tmp_path, monkeypatch):
    """The picture comes last: when it fails, the mask that was already written does not stay alone."""

    def fail(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr("matplotlib.backends.backend_agg.FigureCanvasAgg.print_png", fail)
    with pytest.raises((OSError, RuntimeError)):
        run_workflow(image=image, foreground=CLICK, output_dir=str(tmp_path / "out"), preview=True)
    assert not list((tmp_path / "out").rglob("*"))


# ---- weights


def test_missing_weights(refused, image, tmp_path):
    refused("none.pt.*no such file.*expected", image=image, ckpt_path=tmp_path / "none.pt")


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 not weights either"])
def test_corrupt_weights(refused, image, tmp_path, content):
    (tmp_path / "bad.pt").write_bytes(content)
    refused(
        "bad.pt.*cannot be read as weights.*expected a plain state dict", image=image, ckpt_path=tmp_path / "bad.pt"
    )


def test_half_the_weights(refused, image, tmp_path, random_weights):
    (tmp_path / "half.pt").write_bytes(random_weights.read_bytes()[:100000])
    refused("half.pt.*cannot be read as weights", image=image, ckpt_path=tmp_path / "half.pt")


def test_weights_of_another_architecture(refused, image, tmp_path, random_weights):
    state = torch.load(random_weights, weights_only=True)
    changed = dict(state)
    changed.pop("image_encoder.pos_embed")
    changed["mask_decoder.iou_token.weight"] = torch.zeros(1, 7)
    changed["new"] = torch.zeros(1)
    torch.save(changed, tmp_path / "other.pt")
    said = refused("other.pt.*weights of another architecture", image=image, ckpt_path=tmp_path / "other.pt")
    assert "1 missing (image_encoder.pos_embed)" in said and "1 unknown (new)" in said
    assert "iou_token.weight (1, 7) instead of (1, 96)" in said
    assert f"expected the {len(state)} tensors" in said


@pytest.mark.parametrize("saved", [[1, 2, 3], {"model": 5}, {"epoch": 3, "state": {}}])
def test_no_state_dict(refused, image, tmp_path, saved):
    torch.save(saved, tmp_path / "list.pt")
    refused("list.pt.*expected a plain state dict", image=image, ckpt_path=tmp_path / "list.pt")


# ---- as a user meets it


def test_the_command_fails_clearly(run_command, fastsam3d_path, random_weights, image, tmp_path):
    done = run_command(
        tmp_path,
        bundle_root=str(fastsam3d_path),
        config_file=str(fastsam3d_path / "configs/inference.json"),
        image=str(image),
        foreground=[[99, 0, 0]],
        ckpt_path=str(random_weights),
        output_dir=str(tmp_path / "out"),
    )
    assert done.returncode != 0
    assert "object: foreground [99.0, 0.0, 0.0] lies outside the volume" in done.stderr, done.stderr[-1500:]
    assert not (tmp_path / "out").exists()


def test_json_of_a_good_run_has_no_bare_nan(run_workflow, image):
    folder = run_workflow(image=image, foreground=CLICK)
    json.loads((folder / "image_seg.json").read_text(), parse_constant=pytest.fail)
