# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What training and evaluation read: masks of all kinds give the same items, and what is wrong is said at once."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from training_runs import COLOURS, make_folder, make_list

from bundles.ssam_2d.scripts.data.folder import read_folder
from bundles.ssam_2d.scripts.data.items import checked_items, label_list, labelled_items, split
from bundles.ssam_2d.scripts.data.masks import LoadMasksd, read_masks
from bundles.ssam_2d.scripts.images import LoadImage2Dd
from bundles.ssam_2d.scripts.training.absent import NOT_ASKED, AskedLoss, SampleAbsentd

NAMES = list(COLOURS)


def loaded(items, labels):
    """The masks of all items, (N, L, H, W)."""
    image, masks = LoadImage2Dd("image"), LoadMasksd("label", labels)
    return torch.stack([masks(image(dict(item)))["label"].as_tensor() for item in items])


@pytest.mark.parametrize("kind", ["colour", "files", "folders"])
def test_all_kinds_of_masks_say_the_same(tmp_path, kind):
    expected = loaded(read_folder(make_folder(tmp_path / "index")), NAMES)
    items = labelled_items("all", dataset_dir=make_folder(tmp_path / kind, kind))
    assert label_list(items) == NAMES
    assert torch.equal(loaded(checked_items(items, NAMES), NAMES), expected)
    assert set(expected.unique().tolist()) == {0, 1}
    # Every second image shows no bar.
    assert expected.flatten(2).any(-1)[:, 1].tolist() == [True, False] * 3


def test_binary_masks_of_one_label(tmp_path):
    items = labelled_items("all", dataset_dir=make_folder(tmp_path / "binary", "binary"))
    index = loaded(read_folder(make_folder(tmp_path / "index")), ["disc"])
    assert label_list(items) == ["disc"]
    assert torch.equal(loaded(items, ["disc"]), index)


def test_a_data_list_and_a_folder_say_the_same(tmp_path):
    folder = make_folder(tmp_path / "a")
    listed = labelled_items("training", make_list(folder)) + labelled_items("validation", folder / "list.json")
    assert torch.equal(loaded(listed, NAMES), loaded(read_folder(folder), NAMES))
    assert label_list(listed) == NAMES


def test_a_list_with_colours_and_one_with_a_file_a_label(tmp_path):
    colour, files = make_folder(tmp_path / "colour", "colour"), make_folder(tmp_path / "files", "files")
    (colour / "list.json").write_text(
        json.dumps({"labels": COLOURS, "training": [{"image": "images/case_0.png", "label": "masks/case_0.png"}]})
    )
    label = {name: f"masks/case_0_{name}.png" for name in NAMES}
    (files / "list.json").write_text(json.dumps({"training": [{"image": "images/case_0.png", "label": label}]}))
    one, other = (labelled_items("all", f / "list.json") for f in (colour, files))
    assert label_list(one) == label_list(other) == NAMES
    assert torch.equal(loaded(one, NAMES), loaded(other, NAMES))


def test_overlapping_labels_keep_all_their_pixels(tmp_path):
    folder = make_folder(tmp_path / "files", "files", count=1)
    disc = np.asarray(Image.open(folder / "masks" / "case_0_disc.png"))
    Image.fromarray(np.full_like(disc, 255)).save(folder / "masks" / "case_0_bar.png")
    masks = loaded(read_folder(folder), NAMES)[0]
    assert masks[1].all() and int(masks[0].sum()) == (disc > 0).sum()


def test_blanks_in_names_may_be_underscores_in_files(tmp_path):
    folder = make_folder(tmp_path / "files", "files", count=1)
    (folder / "masks" / "case_0_bar.png").rename(folder / "masks" / "case_0_left_bar.png")
    (folder / "labels.json").write_text('{"1": "disc", "2": "left bar"}')
    (item,) = read_folder(folder)
    assert list(item["label"]) == ["disc", "left bar"]


@pytest.mark.parametrize(("count", "held"), [(2, 0), (3, 1), (10, 2), (40, 8)])
def test_the_split_follows_the_seed(count, held):
    training, validation = split(range(count), 0.2, seed=1)
    assert len(validation) == held and sorted([*training, *validation]) == list(range(count))
    assert split(range(count), 0.2, seed=1) == (training, validation)
    if count == 40:
        assert split(range(count), 0.2, seed=2)[1] != validation
    assert split(range(count), 0.0, seed=1) == (list(range(count)), [])


def test_a_list_without_validation_is_split_as_a_folder_is(tmp_path):
    folder = make_folder(tmp_path / "a")
    path = make_list(folder, training=6)
    content = json.loads(path.read_text())
    del content["validation"]
    path.write_text(json.dumps(content))
    for section in "training", "validation", "all":
        listed, plain = (labelled_items(section, p, d, seed=3) for p, d in ((path, None), (None, folder)))
        assert [item["image"] for item in listed] == [item["image"] for item in plain]


def save(path, array):
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


def test_bad_masks_are_all_named(tmp_path):
    folder = make_folder(tmp_path / "a")
    masks = folder / "masks"
    save(masks / "case_0.png", np.zeros((20, 48)))
    save(masks / "case_1.png", np.full((40, 48), 7))
    (masks / "case_2.png").write_bytes(b"no picture")
    (folder / "images" / "case_3.png").write_bytes((folder / "images" / "case_4.png").read_bytes()[:200])
    save(masks / "case_4.png", np.random.default_rng(0).integers(0, 255, (40, 48, 3)))
    with pytest.raises(ValueError, match="5 of 6 images cannot be used") as caught:
        checked_items(read_folder(folder), NAMES)
    said = str(caught.value)
    for part in (
        r"case_0.png: a mask of 48 x 20 pixels, the image .*case_0.png has 48 x 40",
        r"case_1.png: unknown label 7; expected 0 for background and 1 disc, 2 bar",
        r"case_2.png: cannot be read",
        r"case_3.png: cannot be read",
        r"case_4.png: a mask in colours",
    ):
        assert re.search(part, said), said


def test_colours_not_in_the_map(tmp_path):
    folder = make_folder(tmp_path / "a", "colour")
    (folder / "labels.json").write_text(json.dumps({"disc": COLOURS["disc"]}))
    with pytest.raises(ValueError, match=r"240 pixels of colours that are not in the map: \[\[40, 60, 220\]\]"):
        checked_items(read_folder(folder), ["disc"])


def test_a_binary_mask_with_three_values(tmp_path):
    save(tmp_path / "mask.png", [[0, 100, 255]])
    with pytest.raises(ValueError, match="the values 0, 100, 255; expected a binary mask"):
        read_masks({"disc": str(tmp_path / "mask.png")}, {})


def test_a_mask_without_any_names(tmp_path):
    save(tmp_path / "mask.png", [[0, 3, 3]])
    assert list(read_masks(str(tmp_path / "mask.png"), {})) == ["label 3"]
    with pytest.raises(ValueError, match="no label has a name"):
        label_list([{"image": "a.png", "label": "b.png", "label_names": {}}])


def break_folder(folder, how):
    if how == "nothing there":
        shutil.rmtree(folder)
    elif how == "no labels.json":
        (folder / "labels.json").unlink()
    elif how == "no masks":
        shutil.rmtree(folder / "masks")
    elif how == "no images":
        for file in (folder / "images").iterdir():
            file.unlink()
    elif how == "a mask missing":
        (folder / "masks" / "case_2.png").unlink()
    else:
        (folder / "labels.json").write_text(how)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nothing there", "no such folder; expected a folder with images/, masks/ and labels.json"),
        ("no labels.json", "no labels.json in it"),
        ("no masks", "no masks in it"),
        ("no images", "images: no image in it"),
        ("a mask missing", r"no mask for case_2.png; expected .* case_2_disc.png"),
        ("{", "not valid JSON"),
        ("[]", r"holds \[\]"),
        ('{"gland": -1}', "'gland': -1; expected"),
        ('{"1": "gland", "1": "duct"}', "the key '1' comes twice"),
        ('{"gland": [0, 0]}', r"'gland': \[0, 0\]; expected"),
        ('{"1": "gland", "x": [1, 2, 3]}', "'1': 'gland'; expected .*, all of one kind"),
        ('{"1": "gland", "2": "gland"}', "the name 'gland' comes twice"),
    ],
)
def test_a_folder_that_is_wrong(tmp_path, how, message):
    folder = make_folder(tmp_path / "a")
    break_folder(folder, how)
    with pytest.raises(ValueError, match=message):
        read_folder(folder)


def test_no_data_at_all():
    with pytest.raises(ValueError, match="give --data_list_file_path LIST.json, or --dataset_dir"):
        labelled_items()


def test_an_unknown_wanted_label(tmp_path):
    items = read_folder(make_folder(tmp_path / "a"))
    assert label_list(items, ["bar"]) == ["bar"]
    with pytest.raises(ValueError, match="unknown label 'disk'; the data has disc, bar; did you mean disc"):
        label_list(items, ["disk"])


def test_labels_without_a_pixel(tmp_path):
    folder = make_folder(tmp_path / "a", count=2)
    for file in (folder / "masks").iterdir():
        save(file, np.zeros((40, 48)))
    with pytest.raises(ValueError, match="none of disc, bar has a pixel in any of the 2 masks"):
        checked_items(read_folder(folder), NAMES)


def test_absent_labels_are_asked_for_at_their_rate():
    mask = torch.zeros(500, 4, 4, dtype=torch.uint8)
    mask[:100, 1, 1] = 1
    sample = SampleAbsentd("label", rate=0.3)
    sample.set_random_state(0)
    sampled = sample({"label": mask})["label"]
    assert torch.equal(sampled[:100], mask[:100])
    dropped = (sampled[100:] == NOT_ASKED).flatten(1)
    assert (dropped.all(1) == dropped.any(1)).all() and 0.6 < dropped[:, 0].float().mean() < 0.8
    alone = SampleAbsentd("label", rate=0.0)({"label": torch.zeros(5, 4, 4, dtype=torch.uint8)})["label"]
    assert int((alone[:, 0, 0] == 0).sum()) == 1
    with pytest.raises(ValueError, match="absent_rate 2: expected a share"):
        SampleAbsentd("label", rate=2)


def test_the_loss_sees_what_is_asked_for_alone():
    logits, target = torch.randn(2, 3, 4, 4), torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    target[0, 1] = 1
    target[1, 2] = NOT_ASKED
    seen = []
    AskedLoss(lambda x, y: seen.append((x, y)) or x.sum())(logits, target)
    assert torch.equal(seen[0][0], torch.cat([logits[0], logits[1, :2]])[:, None])
    assert seen[0][1].dtype == logits.dtype and seen[0][1].max() == 1
