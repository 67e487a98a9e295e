# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Every data set from a miniature tree of its own layout to the label values that it must give."""

import json

import nibabel as nib
import numpy as np
import pytest
from data_set_trees import AFFINE, SHAPE, TREES, ball, blocks, brats2023, save, scan
from PIL import Image

from common.data_list import read_data_list
from tools.prepare_data.case import Choices


def sections(folder):
    content = json.loads((folder / "data_list.json").read_text())
    return {
        name: read_data_list(folder / "data_list.json", folder, name)
        for name, part in content.items()
        if isinstance(part, list)
    }


def all_items(folder):
    return [item for items in sections(folder).values() for item in items]


def item_of(folder, name):
    (item,) = (i for i in all_items(folder) if name in str(i["image"]))
    return item


def pixels(path):
    return (
        np.asarray(nib.load(path).dataobj) if str(path).endswith((".nii", ".nii.gz")) else np.asarray(Image.open(path))
    )


def snapshot(root):
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(root.rglob("*"))}


@pytest.mark.parametrize("name", TREES)
def test_a_list_that_reads_with_each_patient_in_one_section_and_the_source_as_it_was(name, tree, prepared):
    source = tree(name)
    before = snapshot(source)
    folder, summary = prepared(name, source, validation=0.4)
    assert snapshot(source) == before
    parts = sections(folder)
    assert set(parts) == {"training", "validation"} and all(parts.values())
    patients = [{i["patient"] for i in items} for items in parts.values()]
    assert not patients[0] & patients[1]
    assert summary["left_out"] == 0
    named = {n for n, about in summary["labels"].items() if about["cases"]}
    never = {p["text"].split(":")[0] for p in summary["problems"] if p["kind"] == "label never present"}
    assert named and never == set(summary["labels"]) - named
    for item in all_items(folder):
        image = pixels(item["image"])
        labels = item["label"].values() if isinstance(item["label"], dict) else [item["label"]]
        assert all(pixels(label).shape == image.shape[: pixels(label).ndim] for label in labels)
        if not isinstance(item["label"], dict):
            assert set(np.unique(pixels(item["label"]))) - {0} <= set(item["label_names"])


def test_the_same_seed_gives_the_same_split_and_another_seed_another(tree, prepared):
    source = tree("pairs")
    chosen = []
    for i, seed in enumerate((1, 1, 2, 3)):
        folder, _ = prepared("pairs", source, f"out{i}", seed=seed, validation=0.5)
        chosen.append({i["patient"] for i in sections(folder)["validation"]})
    assert chosen[0] == chosen[1]
    assert chosen[0] != chosen[2] or chosen[0] != chosen[3]


@pytest.mark.parametrize("with_watershed", [True, False])
def test_cholecseg8k_gives_the_same_labels_from_either_mask(with_watershed, tree, prepared):
    source = tree("cholecseg8k")
    if not with_watershed:
        for path in source.rglob("*watershed*"):
            path.unlink()
    folder, summary = prepared("cholecseg8k", source, split_by="official")
    assert [len(sections(folder)[s]) for s in ("training", "validation", "test")] == [4, 2, 2]
    item = item_of(folder, "frame_80_endo")
    expected = blocks(1, 3, 4, 5)
    expected[[0, -1]] = expected[:, [0, -1]] = 0
    assert np.array_equal(pixels(item["label"]), expected)
    assert [item["label_names"][i] for i in (1, 3, 4, 5)] == ["grasper", "liver", "fat", "gallbladder"]
    assert len(item["label_names"]) == 12
    other = item_of(folder, "frame_400_endo")
    assert [other["label_names"][i] for i in np.unique(pixels(other["label"])) if i] == [
        "abdominal wall",
        "gastrointestinal tract",
        "liver ligament",
    ]
    assert not [p for p in summary["problems"] if p["kind"].startswith("unknown")]


def test_glas_joins_numbered_glands_and_keeps_a_patient_together(tree, prepared):
    folder, _ = prepared("glas", tree("glas"))
    assert np.array_equal(pixels(item_of(folder, "train_1.bmp")["label"]), (blocks(1, 2, 3) > 0).astype(np.uint8))
    assert item_of(folder, "train_1.bmp")["patient"] == item_of(folder, "train_2.bmp")["patient"] == "patient_1"


def test_glas_without_its_table_says_that_patients_are_not_known(tree, prepared):
    source = tree("glas")
    (source / "Warwick_QU_Dataset" / "Grade.csv").unlink()
    _, summary = prepared("glas", source)
    assert "no patients" in [p["kind"] for p in summary["problems"]]


def test_chestx_det_keeps_overlapping_findings_apart(tree, prepared):
    folder, summary = prepared("chestx_det", tree("chestx_det"))
    label = item_of(folder, "36302")["label"]
    assert set(label) == {"Effusion", "Mass"}
    masks = [pixels(path) > 0 for path in label.values()]
    assert masks[0][10, 8] and not masks[1][5, 5] and (masks[0] & masks[1])[12, 14]
    assert set(np.unique(pixels(label["Mass"]))) == {0, 255}
    # An image without findings has a label map, an empty one.
    assert not pixels(item_of(folder, "36199")["label"]).any()
    assert summary["empty_labels"] == 1


def test_abdominal_us_by_colours_and_the_cts_of_the_official_split(tree, prepared):
    folder, _ = prepared("abdominal_us", tree("abdominal_us"), split_by="official")
    parts = {s: {i["patient"] for i in items} for s, items in sections(folder).items()}
    assert parts == {"training": {"ct1"}, "validation": {"ct13"}, "test": {"ct16"}}
    item = item_of(folder, "ct1-1")
    expected = blocks(1, 2, 4)
    assert np.array_equal(pixels(item["label"]), expected)
    assert [item["label_names"][i] for i in (1, 2, 4)] == ["liver", "kidney", "vessels"]


@pytest.mark.parametrize("slices", ["labelled", "all", "no"])
def test_lits_slices_keep_hounsfield_units_and_their_place(slices, tree, prepared):
    folder, summary = prepared("lits", tree("lits"), slices=slices)
    items = [i for i in all_items(folder) if "volume-0" in i["image"]]
    assert len(items) == {"labelled": SHAPE[2] - 6, "all": SHAPE[2], "no": 1}[slices]
    if slices == "no":
        assert items[0]["image"].endswith("volume-0.nii")
        return
    number = 4 if slices == "labelled" else 7
    image, label = (nib.load(items[number][key]) for key in ("image", "label"))
    assert image.shape == label.shape == (*SHAPE[:2], 1)
    assert np.array_equal(np.asarray(image.dataobj)[..., 0], scan(0)[..., 7])
    assert np.array_equal(np.asarray(label.dataobj)[..., 0], ball(1, 2)[..., 7])
    assert np.allclose(image.affine @ [3, 5, 0, 1], AFFINE @ [3, 5, 7, 1], atol=1e-4)
    assert summary["modality"] == {"CT": len(all_items(folder))}


def test_drive_and_arcade_and_salt_give_vessels(tree, prepared):
    for name, image, expected in (
        ("drive", "21_training", blocks(1, 1)),
        # The mask's dim block is compression's trace.
        ("salt", "0.png", blocks(1, 0)),
    ):
        folder, _ = prepared(name, tree(name), name, split_by="official")
        assert np.array_equal(pixels(item_of(folder, image)["label"]), expected)
    folder, _ = prepared("arcade", tree("arcade"), "arcade", split_by="official")
    label = pixels(item_of(folder, "train/images/1.png")["label"])
    assert label[10, 7] == label[10, 17] == 1 and label[10, 12] == label[2, 7] == 0
    assert [len(sections(folder)[s]) for s in ("training", "validation", "test")] == [3, 1, 1]


def test_amos22_by_modality_and_official_split(tree, prepared):
    source = tree("amos22")
    folder, summary = prepared("amos22", source, split_by="official")
    assert summary["modality"] == {"CT": 3, "MR": 2}
    assert {i["patient"] for i in sections(folder)["validation"]} == {"0008", "0508"}
    item = item_of(folder, "amos_0001")
    assert item["label"] == str(source / "amos22/labelsTr/amos_0001.nii.gz")
    assert [item["label_names"][i] for i in (1, 6, 15)] == ["spleen", "liver", "prostate or uterus"]
    _, summary = prepared("amos22", source, "mr", Choices(modality="MR"))
    assert summary["modality"] == {"MR": 2}


def test_totalsegmentator_joins_the_files_of_the_organs(tree, prepared):
    folder, summary = prepared("totalsegmentator", tree("totalsegmentator"), split_by="official")
    assert {s: len(items) for s, items in sections(folder).items()} == {"training": 2, "validation": 1, "test": 1}
    item = item_of(folder, "s0001")
    assert item["label_names"] == {1: "aorta", 2: "liver", 3: "spleen"}
    assert np.array_equal(pixels(item["label"]), ball(1, 2, 3))
    assert np.allclose(nib.load(item["label"]).affine, AFFINE, atol=1e-5)
    assert summary["labels"]["spleen"]["cases"] == 3


def test_totalsegmentator_says_where_two_organs_overlap(tree, prepared):
    source = tree("totalsegmentator")
    (source / "s0001/segmentations/spleen.nii.gz").write_bytes(
        (source / "s0001/segmentations/liver.nii.gz").read_bytes()
    )
    folder, summary = prepared("totalsegmentator", source)
    (problem,) = (p for p in summary["problems"] if p["kind"] == "overlap")
    count = int((ball(1) > 0).sum())
    assert f"{count} voxels lie in two masks" in problem["text"]
    assert (pixels(item_of(folder, "s0001")["label"]) == 3).sum() == count


@pytest.mark.parametrize(
    "maker, contrast, file, enhancing",
    [(None, "t1ce", "t1ce", 4), (brats2023, "t1ce", "t1c", 3), (None, None, "flair", 4)],
)
def test_brats_takes_the_contrast_that_is_asked_for(maker, contrast, file, enhancing, tree, prepared):
    folder, _ = prepared("brats", tree("brats", maker), choices=Choices(contrast=contrast))
    for item in all_items(folder):
        assert item["image"].endswith(f"{file}.nii.gz")
        assert item["label_names"][enhancing] == "enhancing tumour"
        assert np.array_equal(pixels(item["label"]), ball(1, 2, enhancing))


def test_two_examinations_of_a_brats_patient_stay_together(tree, prepared):
    folder, _ = prepared("brats", tree("brats", brats2023))
    parts = [{i["patient"] for i in items} for items in sections(folder).values()]
    assert parts[0] | parts[1] == {"BraTS-GLI-00000", "BraTS-GLI-00002"} and not parts[0] & parts[1]


def test_nnunet_takes_a_channel_by_name_or_number(tree, prepared):
    source = tree("nnunet")
    for i, (contrast, file) in enumerate(((None, "_0000"), ("ADC", "_0001"), ("1", "_0001"))):
        folder, _ = prepared("nnunet", source, f"out{i}", Choices(contrast=contrast))
        assert all(item["image"].endswith(f"{file}.nii.gz") for item in all_items(folder))
        assert item_of(folder, "case_001")["label_names"] == {1: "zone", 2: "lesion"}


def test_decathlon_writes_the_channel_of_a_4d_file(tree, prepared):
    folder, summary = prepared("decathlon", tree("decathlon"), choices=Choices(contrast="adc"))
    item = item_of(folder, "prostate_01")
    assert np.array_equal(pixels(item["image"]), scan(11))
    assert item["modality"] == "ADC" and not summary["problems"]


@pytest.mark.parametrize("colours", [True, False])
def test_pairs_by_values_or_colours_of_labels_json(colours, tree, prepared):
    source = tree("pairs")
    if colours:
        for path in (source / "masks").iterdir():
            save(path, blocks((200, 0, 200), (0, 0, 9), background=(0, 0, 0)))
        (source / "labels.json").write_text(json.dumps({"nerve": [200, 0, 200], "vessel": [0, 0, 9]}))
    folder, _ = prepared("pairs", source)
    item = item_of(folder, "images/0.png")
    assert np.array_equal(pixels(item["label"]), blocks(1, 2))
    assert item["label_names"] == {1: "nerve", 2: "vessel"}
    assert (item["label"] == str(source / "masks/0.png")) is not colours


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_only_what_is_read_as_numbers_stays_in_place(mode, tree, prepared):
    """A palette or three equal channels would be taken for colours."""
    source = tree("pairs")
    for path in (source / "masks").iterdir():
        picture = Image.open(path)
        if mode == "P":
            picture.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
        (picture if mode == "P" else picture.convert(mode)).save(path)
    folder, _ = prepared("pairs", source)
    item = item_of(folder, "images/0.png")
    assert (item["label"] == str(source / "masks/0.png")) is (mode == "L")
    with Image.open(item["label"]) as picture:
        assert picture.mode == "L"
    assert np.array_equal(pixels(item["label"]), blocks(1, 2))


def test_pairs_by_patterns_and_without_names(tree, prepared):
    source = tree("amos22")
    patterns = Choices(images="amos22/imagesTr/*.nii.gz", masks="amos22/labelsTr/*.nii.gz", modality="CT")
    folder, summary = prepared("pairs", source, choices=patterns)
    assert item_of(folder, "amos_0001")["label_names"] == {}
    assert summary["labels"]["value 6"]["cases"] == 3


def test_pairs_with_white_masks(tree, prepared):
    source = tree("pairs")
    for path in (source / "masks").iterdir():
        save(path, blocks(255))
    (source / "labels.json").unlink()
    folder, summary = prepared("pairs", source, choices=Choices(labels={"255": "polyp"}))
    assert item_of(folder, "images/0.png")["label_names"] == {255: "polyp"}
    assert summary["labels"]["polyp"]["cases"] == 4
