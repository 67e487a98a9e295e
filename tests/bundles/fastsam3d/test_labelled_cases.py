# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

import numpy as np
import pytest
import torch
from volumes import Phantom, grid_around, rotation, write_itk, write_nifti

from bundles.fastsam3d.scripts.labelled_cases import LoadLabelsd, check_cases
from bundles.fastsam3d.scripts.volumes import LoadVolumed

GRID = grid_around(rotation(20, 0, -30) @ np.diag([2.0, -1.0, 3.0]), (20, 18, 12))
BODY = Phantom(((12, -30, 45), (12, 7, 9)))


@pytest.fixture
def case(tmp_path):
    """``case(labels, grid, ...)``: the item of the phantom and a label map that is written."""
    image = write_nifti(tmp_path / "image.nii.gz", BODY.image(GRID), GRID)

    def write(labels, grid=GRID, name="label.nii.gz", **more):
        path = tmp_path / name
        (write_nifti if name.endswith("nii.gz") else write_itk)(path, labels, grid)
        return {"image": str(image), "label": str(path), "label_names": {1: "body", 7: "gone"}, **more}

    return write


def two_classes():
    labels = BODY.truth(GRID).astype(np.int16)
    labels[0, 0, 0] = 300
    return labels


@pytest.mark.parametrize("name", ["label.nii.gz", "label.nrrd"])
def test_classes_that_are_there(case, name):
    (item,) = check_cases([case(two_classes(), name=name, fold=1)], progress=False)
    assert item["classes"] == {1: "body", 300: "label 300"}
    assert item["fold"] == 1
    assert isinstance(item["label"], str)


def test_a_white_mask_of_one_label_has_its_name(case):
    item = case(BODY.truth(GRID).astype(np.uint8) * 255, label_names={1: "body"})
    (checked,) = check_cases([item], progress=False)
    assert checked["classes"] == {255: "body"} == checked["label_names"]


def test_label_map_is_read_as_it_is_stored(case):
    loaded = LoadLabelsd("label")(LoadVolumed("image")(case(two_classes().astype(np.float32))))
    assert loaded["label"].dtype == torch.int32
    np.testing.assert_array_equal(loaded["label"][0].numpy(), two_classes())
    np.testing.assert_allclose(loaded["label"].affine, GRID.affine, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.float64])
def test_large_labels_that_lie_side_by_side_stay_apart(case, dtype):
    labels = np.where(BODY.truth(GRID), 2**24 + 1, 0).astype(dtype)
    labels[0, 0, :2] = 2**24, 2**31 - 1
    loaded = LoadLabelsd("label")(LoadVolumed("image")(case(labels)))["label"][0].numpy()
    np.testing.assert_array_equal(loaded, labels.astype(np.int64))


@pytest.mark.parametrize("off", [1e-6, -1e-6, 5e-5])
def test_labels_nearly_whole_are_whole(case, off):
    labels = two_classes() + np.where(BODY.truth(GRID), off, 0)
    loaded = LoadLabelsd("label")(LoadVolumed("image")(case(labels.astype(np.float64))))["label"][0].numpy()
    np.testing.assert_array_equal(loaded, two_classes())


@pytest.mark.parametrize(
    ("labels", "grid", "message"),
    [
        (np.zeros(GRID.shape, np.uint8), GRID, "every voxel is 0"),
        (BODY.truth(GRID) * np.float32(0.5), GRID, "expected whole numbers"),
        (-BODY.truth(GRID).astype(np.int16), GRID, "expected whole numbers"),
        ((BODY.truth(GRID) * (2**24 + 2)).astype(np.float32), GRID, "the value 16777218 in numbers of 32 bits"),
        ((BODY.truth(GRID) * 2.0**31).astype(np.uint32), GRID, "the value 2147483648; expected whole numbers"),
        (BODY.truth(GRID) * np.float32(1.01), GRID, "the value 1.01; expected whole numbers"),
        (BODY.truth(GRID)[..., None].astype(np.uint8).repeat(3, -1), GRID, "3 channels; expected one label map"),
        (np.ones((20, 18, 11), np.uint8), GRID, "the image has .20, 18, 12.; expected its grid"),
        (two_classes(), grid_around(np.diag([2.0, 2.0, 2.0]), GRID.shape), "its affine is not that of the image"),
    ],
    ids=["nothing", "halves", "negative", "merged", "too large", "no label", "channels", "shape", "place"],
)
def test_label_maps_that_cannot_be_used(case, labels, grid, message):
    with pytest.raises(ValueError, match=f"1 of 2 labelled volumes cannot be used; (.|\n)*bad.nii.gz: .*{message}"):
        check_cases([case(two_classes()), case(labels, grid, "bad.nii.gz")], progress=False)


def test_every_problem_in_one_message(case, tmp_path):
    (tmp_path / "text.nii.gz").write_text("no image")
    bad = [case(np.zeros(GRID.shape, np.uint8), name=f"bad{i}.nii.gz") for i in range(12)]
    bad.append({**bad[0], "image": str(tmp_path / "text.nii.gz")})
    with pytest.raises(ValueError) as caught:
        check_cases(bad[:2] + bad[-1:], progress=False)
    assert all(name in str(caught.value) for name in ("bad0.nii.gz", "bad1.nii.gz", "text.nii.gz"))
    with pytest.raises(ValueError, match="13 of 13(.|\n)*bad9(.|\n)*and 3 more"):
        check_cases(bad, progress=False)


def test_forms_of_pictures_are_not_for_volumes(case):
    good = case(two_classes())
    for bad in ({**good, "label": {"liver": good["label"]}}, {**good, "label_names": {"liver": (255, 0, 0)}}):
        with pytest.raises(ValueError, match="expected one label map, and names of its values"):
            check_cases([bad], progress=False)
