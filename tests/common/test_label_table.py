# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Names of labels in the forms of several data sets, and pairs of images and masks."""

from pathlib import Path

import pytest

from common.label_table import names_of_values, read_label_names
from common.mask_pairs import by_stem, mask_of


@pytest.mark.parametrize(
    "given",
    [
        {"1": "gland", "2": "duct"},
        {"0": "background", "1": "gland", "2": "duct"},
        {"background": 0, "gland": 1, "duct": 2},
        {"gland": 1.0, "duct": 2.000001},
        {"1.0": "gland", "2": "duct"},
    ],
)
def test_names_of_values(given):
    assert read_label_names(given, "labels.json") == {1: "gland", 2: "duct"}


def test_names_that_are_numbers():
    assert read_label_names({"1": "2", "2": "1"}, "x") == {1: "2", 2: "1"}
    assert read_label_names({"2": 1, "1": 2}, "x") == {1: "2", 2: "1"}


def test_names_of_colours(caplog):
    given = {"background": [0, 0, 0], "polyp": [200, 0, 200]}
    assert read_label_names(given, "x") == {"polyp": (200, 0, 200)}
    assert not caplog.text
    # What black or 0 is called is not dropped without a word.
    assert read_label_names({"gland": [0, 0, 0], "polyp": [1, 2, 3]}, "x") == {"polyp": (1, 2, 3)}
    assert read_label_names({"0": "stroma", "1": "gland"}, "x") == {1: "gland"}
    assert "black is the background; 'gland' is not a label" in caplog.text
    assert "value 0 is the background; 'stroma' is not a label" in caplog.text


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([], "holds"),
        ({}, "holds"),
        ({"1": ""}, "'1': ''"),
        ({"1": None}, "'1': None"),
        ({"one": "gland"}, "'one': 'gland'"),
        ({"-1": "gland"}, "'-1': 'gland'"),
        ({"1.5": "gland"}, "'1.5': 'gland'"),
        ({"gland": 1, "duct": "2"}, "'gland': 1"),
        ({"gland": True}, "'gland': True"),
        ({"1": "a", "2": "a"}, "name 'a' comes twice"),
        ({"1": "a", "1.0": "b"}, "value 1 comes twice"),
        ({"a": 1, "b": 1}, "value 1 comes twice"),
        ({"a": [1, 2, 3], "b": [1, 2, 3]}, "colour .* comes twice"),
        ({"a": [1, 2, 300]}, "'a'"),
        ({"background": 0, "tumour": [1, 2, 3]}, "'background': 0"),
        ({"whole": [1, 2, 3], "core": [2, 3]}, "regions of several values cannot be read"),
    ],
)
def test_other_forms(given, reason):
    with pytest.raises(ValueError, match=f"labels.json: .*{reason}"):
        read_label_names(given, "labels.json")


def paths(*names):
    return [Path("masks") / name for name in names]


def test_two_files_of_one_name():
    assert by_stem(paths("a.png", "b.nii.gz"), "masks") == {"a": Path("masks/a.png"), "b": Path("masks/b.nii.gz")}
    with pytest.raises(ValueError, match="masks: several masks of one name: im1.png and im1.tif; expected one each"):
        by_stem(paths("im0.png", "im1.png", "im1.tif"), "masks")


def test_the_mask_of_an_image():
    masks = by_stem(paths("a.png", "b_mask.png", "c_segmentation.png", "c_mask_mask.png"), "masks")
    images = ["a", "b", "c", "c_mask", "d"]
    assert [mask_of(stem, masks, images) for stem in images] == [
        *paths("a.png", "b_mask.png", "c_segmentation.png", "c_mask_mask.png"),
        None,
    ]
    with pytest.raises(ValueError, match="several masks for a: a.png, a_mask.png; expected one"):
        mask_of("a", by_stem(paths("a.png", "a_mask.png"), "masks"), ["a"])
    # It is the mask of the other image, which is called so.
    assert mask_of("a", by_stem(paths("a.png", "a_mask.png"), "masks"), ["a", "a_mask"]) == Path("masks/a.png")


def test_white_masks_of_one_label():
    assert names_of_values({1: "liver"}, [255]) == {255: "liver"} == names_of_values({255: "liver"}, [255])
    assert names_of_values({255: "liver"}, [1]) == {1: "liver"}
    # Not where another label could be meant.
    for names, values in (({2: "liver"}, [255]), ({1: "liver", 2: "spleen"}, [255]), ({1: "liver"}, [1, 255])):
        assert names_of_values(names, values) == names
