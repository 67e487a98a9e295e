# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The images that the shipped weights of ssam_2d train on."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tools.research import ssam_images
from tools.research.ssam_images import NAMES, Picture, as_seen, main, painted, part, slices, times

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


def test_made_up_images_follow_the_seed(tmp_path):
    for name in "ab":
        assert main(["--output", str(tmp_path / name), "--volumes", "1", "--each", "2"]) == 0
    files = sorted(f.relative_to(tmp_path / "a") for f in (tmp_path / "a").rglob("*.png"))
    assert files and all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    base = json.loads((tmp_path / "a" / "base.json").read_text())
    assert all((tmp_path / "a" / item["label"]).is_file() for item in base["training"])
    with pytest.raises(SystemExit):
        main(["--output", str(tmp_path / "a")])


@pytest.mark.parametrize("data", [False, True])
def test_organs_to_paint_have_to_be_there(tmp_path, data, capsys):
    given = ["--data", str(tmp_path)] if data else []
    with pytest.raises(SystemExit):
        main([*given, "--output", str(tmp_path / "out"), "--painted", "1"])
    assert "totalseg_example" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_slices_are_seen_as_on_a_screen(tmp_path):
    image, mask = np.zeros((20, 30, 4), np.float32), np.zeros((20, 30, 4), np.uint8)
    # Right (large x) and front (large y) of a volume stored as RAS; stored the other way round it shows alike.
    image[15:, 22:] = 100
    mask[15:, 22:] = 5
    shown = []
    for flip in (1, -1):
        affine = np.diag([flip, 1.0, 1, 1])
        for name, values in (("image", image), ("mask", mask)):
            nib.save(nib.Nifti1Image(values[::flip], affine), tmp_path / f"{name}.nii.gz")
        found = list(slices("v", tmp_path / "image.nii.gz", tmp_path / "mask.nii.gz", (2,), names={"5": "liver"}))
        shown.append(found[0])
        assert len(found) == 4
    assert np.array_equal(shown[0].image, shown[1].image)
    assert shown[0].image.shape == (30, 20) and shown[0].image[:8, :5].all() and not shown[0].image[8:].any()
    assert np.unique(shown[0].labels).tolist() == [0, NAMES.index("liver") + 1]


def test_pixels_become_square():
    assert as_seen(np.zeros((10, 20), np.uint8), 3.0).shape == (60, 10)


def test_parts_are_apart():
    parts = [part(i) for i in range(10)]
    assert parts.count("validation") == 1 and parts.count("test") == 2


def test_rarer_kinds_come_more_often():
    pictures = {
        name: Picture(name, np.zeros((2, 2)), np.zeros((2, 2))) for name in ("made_up_0", "cord_t2_3", "busi_1")
    }
    assert [times(p) for p in pictures.values()] == [1, 4, 10]
    assert times(pictures["busi_1"]._replace(part="validation")) == 1


@pytest.mark.skipif(not (SHARED / "totalseg_example").is_dir(), reason=f"{SHARED}/totalseg_example is not there")
def test_organs_in_made_up_looks_follow_the_seed():
    first, again = (list(painted(SHARED, 0, 1, each=6)) for _ in range(2))
    assert first and len(first) == len(again)
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.image, b.image) and np.array_equal(a.objects, b.objects)
        assert a.image.shape == a.objects.shape and a.image.std() > 0 and a.objects.any()


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not there")
def test_real_sets(tmp_path, monkeypatch):
    monkeypatch.setattr(ssam_images, "slices", lambda *args, **kwargs: iter(()))
    assert main(["--data", str(SHARED), "--output", str(tmp_path), "--volumes", "0"]) == 0
    base, default = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("base", "default"))
    assert list(default["labels"].values()) == list(NAMES)
    held = {item["image"] for key in ("validation", "test") for item in default[key]}
    assert len(default["test"]) >= 6 and not held & {item["image"] for item in base["training"]}
    # No set that may not train shipped weights.
    assert not any(word in item["image"] for item in base["training"] for word in ("btcv", "curvas", "brats"))
    for item in default["training"]:
        assert Image.open(tmp_path / item["image"]).size == Image.open(tmp_path / item["label"]).size
