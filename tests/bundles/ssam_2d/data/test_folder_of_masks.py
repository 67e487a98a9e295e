# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Folders as people have them: suffixes, palettes, two files of one name, JSON of other programs."""

import json

import numpy as np
import pytest
from PIL import Image
from training_runs import make_folder

from bundles.ssam_2d.scripts.data.folder import read_folder
from bundles.ssam_2d.scripts.data.items import checked_items, label_list, labelled_items
from bundles.ssam_2d.scripts.data.masks import read_masks
from tools.prepare_data.case import Choices
from tools.prepare_data.run import prepare

VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0]


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "set")


def masks_of(items):
    """Every mask by image and name, as training reads it."""
    read = {}
    for item in items:
        for name, mask in read_masks(item["label"], item["label_names"]).items():
            read[item["image"].rsplit("/", 1)[-1], name] = mask
    return read


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)


def prepared(source, tmp_path, **choices):
    """The items that prepare_data makes of a folder."""
    output = tmp_path / "prepared"
    prepare("pairs", source, output, Choices(**choices), validation=0.0, progress=False)
    return labelled_items("all", output / "data_list.json", output)


@pytest.mark.parametrize("suffix", ["_mask", "_segmentation", "_seg", "_gt"])
def test_masks_with_a_suffix(folder, tmp_path, suffix):
    expected = masks_of(read_folder(folder))
    for file in (folder / "masks").iterdir():
        file.rename(file.with_stem(file.stem + suffix))
    assert_same(masks_of(read_folder(folder)), expected)
    assert_same(masks_of(prepared(folder, tmp_path)), expected)


def test_palettes_as_voc_has_them(folder, tmp_path):
    expected = masks_of(read_folder(folder))
    for file in (folder / "masks").iterdir():
        image = Image.open(file)
        image.putpalette(VOC)
        image.save(file)
        assert Image.open(file).mode == "P"
    assert_same(masks_of(read_folder(folder)), expected)
    assert_same(masks_of(prepared(folder, tmp_path)), expected)


@pytest.mark.parametrize("where", ["white", "in the alpha channel"])
def test_white_masks_of_one_label(folder, tmp_path, where):
    for file in (folder / "masks").iterdir():
        inside = (np.asarray(Image.open(file)) == 1) * np.uint8(255)
        white = np.full_like(inside, 255)
        Image.fromarray(inside if where == "white" else np.dstack([white, white, white, inside])).save(file)
    (folder / "labels.json").write_text('{"1": "disc"}')
    found = masks_of(read_folder(folder))
    assert_same(found, masks_of(prepared(folder, tmp_path)))
    disc = {key: mask for key, mask in masks_of(read_folder(make_folder(tmp_path / "index"))).items() if "disc" in key}
    assert_same(found, disc)


@pytest.mark.parametrize(
    "content", [b'\xef\xbb\xbf{"1": "disc", "2": "bar"}', '{"1": "disc", "2": "bar"}'.encode("utf-16")]
)
def test_labels_of_other_programs(folder, tmp_path, content):
    expected = masks_of(read_folder(folder))
    (folder / "labels.json").write_bytes(content)
    assert_same(masks_of(read_folder(folder)), expected)
    assert_same(masks_of(prepared(folder, tmp_path)), expected)


def test_labels_as_nnunet_has_them(folder, tmp_path):
    expected = masks_of(read_folder(folder))
    (folder / "labels.json").write_text('{"background": 0, "disc": 1, "bar": 2}')
    assert label_list(read_folder(folder)) == ["disc", "bar"]
    assert_same(masks_of(read_folder(folder)), expected)
    assert_same(masks_of(prepared(folder, tmp_path)), expected)


def test_two_images_or_masks_of_one_name_are_refused(folder, tmp_path):
    image = Image.open(folder / "images" / "case_0.png")
    image.save(folder / "images" / "case_0.jpg")
    for read in (read_folder, lambda f: prepared(f, tmp_path)):
        with pytest.raises(ValueError, match="several images of one name: case_0.jpg and case_0.png"):
            read(folder)
    (folder / "images" / "case_0.jpg").unlink()
    # An empty mask of another extension once won.
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(folder / "masks" / "case_1.tif")
    for read in (read_folder, lambda f: prepared(f, tmp_path)):
        with pytest.raises(ValueError, match="several masks of one name: case_1.png and case_1.tif"):
            read(folder)


def test_one_mask_and_files_of_labels_are_refused_together(tmp_path):
    folder = make_folder(tmp_path / "files", "files")
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(folder / "masks" / "case_0.png")
    with pytest.raises(ValueError, match="case_0.png and case_0_disc.png, case_0_bar.png are both masks of case_0"):
        read_folder(folder)


def test_the_mask_of_a_label_may_be_that_of_another_image(tmp_path):
    """An image called as another one and a label: its mask is its own."""
    folder = make_folder(tmp_path / "files", "files", count=2)
    for place in (folder / "images" / "case_0.png", folder / "masks" / "case_0_disc.png"):
        Image.open(place).save(place.with_name("case_0_bar.png"))
    items = {item["image"].rsplit("/", 1)[-1]: item["label"] for item in read_folder(folder)}
    assert list(items["case_0.png"]) == ["disc"]
    assert items["case_0_bar.png"] == str(folder / "masks" / "case_0_bar.png")


def test_masks_without_an_image_are_named(folder, caplog):
    (folder / "images" / "case_5.png").unlink()
    assert len(read_folder(folder)) == 5
    assert "1 masks have no image, such as case_5.png" in caplog.text


def test_jpeg_masks_are_refused_in_both(folder, tmp_path):
    for file in sorted((folder / "masks").iterdir()):
        inside = (np.asarray(Image.open(file)) > 0) * np.uint8(255)
        Image.fromarray(inside).save(file.with_suffix(".jpg"), quality=60)
        file.unlink()
    (folder / "labels.json").write_text('{"255": "disc"}')
    with pytest.raises(ValueError, match="6 of 6 images cannot be used(.|\n)*JPEG"):
        checked_items(read_folder(folder), ["disc"])
    for labels in ({"255": "disc"}, {"1": "disc"}):
        with pytest.raises(ValueError, match="none of 6 cases can be used"):
            prepared(folder, tmp_path, labels=labels)
        assert "compression that changes pixels (JPEG)" in (tmp_path / "prepared" / "report.md").read_text()
        (tmp_path / "prepared").rename(tmp_path / f"prepared_{len(list(tmp_path.iterdir()))}")
    # Without any names every grey value was a label.
    (folder / "labels.json").unlink()
    with pytest.raises(ValueError, match="none of 6 cases can be used"):
        prepared(folder, tmp_path)


def test_a_label_in_no_image_to_train_on(folder, caplog):
    (folder / "labels.json").write_text('{"1": "disc", "2": "bar", "3": "ring"}')
    items = read_folder(folder)
    names = label_list(items)
    with pytest.raises(ValueError, match=r"ring: no pixel in any of the 6 images .*--labels '\[\"disc\", \"bar\"\]'"):
        checked_items(items, names, learnt=True)
    # To evaluate or validate, a label need not be there; what a server's weights know is fixed.
    assert len(checked_items(items, names)) == 6
    assert len(checked_items(items, names, {1: "disc", 2: "bar", 3: "ring"}, learnt=True)) == 6
    assert "ring: no pixel in any of the 6 images" in caplog.text


def test_a_label_that_is_everywhere(folder):
    for file in (folder / "masks").iterdir():
        Image.fromarray(np.full((40, 48), 255, np.uint8)).save(file)
    (folder / "labels.json").write_text('{"1": "disc"}')
    with pytest.raises(ValueError, match="disc covers every pixel of every mask that shows it.*alpha"):
        checked_items(read_folder(folder), ["disc"], learnt=True)
    Image.fromarray(np.eye(40, 48, dtype=np.uint8)).save(folder / "masks" / "case_0.png")
    assert len(checked_items(read_folder(folder), ["disc"], learnt=True)) == 6


def test_a_wanted_label_twice(folder):
    with pytest.raises(ValueError, match="'disc' comes twice"):
        label_list(read_folder(folder), ["disc", "disc"])


def test_a_list_with_a_byte_order_mark(folder):
    content = {
        "training": [{"image": "images/case_0.png", "label": "masks/case_0.png"}],
        "labels": {"disc": 1, "bar": 2},
    }
    (folder / "list.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    (item,) = labelled_items("training", folder / "list.json", validation_share=0.0)
    assert item["label_names"] == {1: "disc", 2: "bar"}
