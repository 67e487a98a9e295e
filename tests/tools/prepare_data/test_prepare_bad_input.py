# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What a person may hand in: each is refused before work, or reported and left out; nothing is dropped silently."""

import json
import re

import nibabel as nib
import numpy as np
import pytest
from data_set_trees import AFFINE, ball, blocks, save, save_volume
from PIL import Image

from tools.prepare_data.case import Choices


def kinds(summary):
    return {p["kind"]: p["text"] for p in summary["problems"]}


@pytest.mark.parametrize(
    "name, other",
    [
        ("cholecseg8k", "glas"),
        ("totalsegmentator", "amos22"),
        ("nnunet", "decathlon"),
        ("chestx_det", "drive"),
        ("brats", "cholecseg8k"),
    ],
)
def test_a_folder_of_another_data_set_is_named(name, other, tree, prepared, tmp_path):
    with pytest.raises(ValueError) as error:
        prepared(name, tree(other))
    assert f"no complete case of {name}" in str(error.value)
    assert re.search(rf"laid out as in:.*\b{other}\b", str(error.value))
    assert not (tmp_path / "prepared").exists()


def test_an_empty_and_a_missing_source(prepared, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no complete case of glas"):
        prepared("glas", tmp_path / "empty")
    with pytest.raises(ValueError, match="no such folder"):
        prepared("glas", tmp_path / "nowhere")


def test_half_a_download_is_used_as_far_as_it_goes(tree, prepared):
    source = tree("cholecseg8k")
    clip = source / "video01" / "video01_00080"
    for mask in clip.glob("frame_81_endo_*"):
        mask.unlink()
    (source / "archive.zip.part").write_bytes(b"PK")
    (source / "video28.zip").write_bytes(b"PK")
    _, summary = prepared("cholecseg8k", source)
    found = kinds(summary)
    assert summary["cases"] == 7
    assert "video01_00080_frame_81" in found["missing pair"]
    assert "archive.zip.part" in found["unfinished download"] and "video28.zip" in found["still packed"]
    assert "7 of the 8080 frames" in found["incomplete"]


def test_archives_alone_are_to_be_unpacked(prepared, tmp_path):
    (tmp_path / "download").mkdir()
    (tmp_path / "download" / "archive.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match="archive.zip: what it holds is not used; unpack it"):
        prepared("cholecseg8k", tmp_path / "download")


def test_a_label_without_an_image_is_reported_too(tree, prepared):
    source = tree("pairs")
    (source / "images" / "2.png").unlink()
    (source / "masks" / "3.png").unlink()
    _, summary = prepared("pairs", source)
    texts = [p["text"] for p in summary["problems"] if p["kind"] == "missing pair"]
    assert len(texts) == 2 and "has no image" in texts[1] and "has no label" in texts[0]


@pytest.mark.parametrize(
    ("name", "gone", "told"),
    [
        ("cholecseg8k", "frame_80_endo.png", "frame_80_endo_watershed_mask.png has no frame"),
        ("glas", "train_1.bmp", "train_1_anno.bmp has no image"),
        ("abdominal_us", "images/train/ct1-1.png", "annotations/train/ct1-1.png has no image"),
        ("lits", "volume-0.nii", "segmentation-0.nii has no volume"),
        ("drive", "21_training.tif", "21_manual1.gif has no image"),
        ("amos22", "imagesTr/amos_0001.nii.gz", "labelsTr/amos_0001.nii.gz has no image"),
        ("brats", "BraTS2021_00000_seg.nii.gz", "BraTS2021_00000_flair.nii.gz has no segmentation"),
        ("nnunet", "labelsTr/case_001.nii.gz", "case_001: no label in labelsTr"),
        ("arcade", "train/images/1.png", "train/images/1.png is not there"),
        ("totalsegmentator", "s0001/segmentations/liver.nii.gz", "s0001: 1 of 3 masks missing"),
    ],
)
def test_either_half_of_a_pair_is_missed(name, gone, told, tree, prepared):
    source = tree(name)
    (path,) = (p for p in source.rglob("*") if str(p).endswith(f"/{gone}"))
    path.unlink()
    _, summary = prepared(name, source)
    assert told in kinds(summary)["missing pair"]


@pytest.mark.parametrize(
    "name, file",
    [
        ("cholecseg8k", "frame_80_endo.png"),
        ("cholecseg8k", "frame_80_endo_watershed_mask.png"),
        ("amos22", "imagesTr/amos_0001.nii.gz"),
        ("amos22", "labelsTr/amos_0001.nii.gz"),
        ("lits", "volume-0.nii"),
        ("totalsegmentator", "s0001/segmentations/liver.nii.gz"),
    ],
)
@pytest.mark.parametrize("content", ["cut", "noise", "empty"])
def test_a_corrupt_file_among_good_ones_is_left_out_and_named(name, file, content, tree, prepared):
    source = tree(name)
    (path,) = (p for p in source.rglob("*") if str(p).endswith(f"/{file}"))
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) * 2 // 3], "noise": b"not an image" * 20, "empty": b""}[content])
    folder, summary = prepared(name, source)
    assert summary["left_out"] == 1 and summary["cases"] >= 2
    assert path.name in kinds(summary)["cannot be read"]
    assert path.name in (folder / "report.md").read_text()
    listed = json.loads((folder / "data_list.json").read_text())
    assert path.name not in json.dumps(listed)


def test_a_broken_annotation_file_costs_its_images_only(tree, prepared):
    source = tree("chestx_det")
    path = source / "ChestX_Det_test.json"
    path.write_text(path.read_text()[:60])
    _, summary = prepared("chestx_det", source)
    assert summary["cases"] == 3 and "ChestX_Det_test.json" in kinds(summary)["cannot be read"]


def test_unusable_outlines_are_named(tree, prepared):
    source = tree("chestx_det")
    path = source / "ChestX_Det_train.json"
    content = json.loads(path.read_text())
    content[1]["syms"][0] = "Effusoin"
    content[2]["polygons"] = [[[1, 1], [2, 2]]]
    path.write_text(json.dumps(content))
    _, summary = prepared("chestx_det", source)
    assert "Effusoin" in kinds(summary)["unknown label"] and "36331" in kinds(summary)["unusable outline"]


@pytest.mark.parametrize("many", [False, True])
def test_unknown_colours_are_background_if_few_else_the_image_is_left_out(many, tree, prepared):
    source = tree("abdominal_us")
    path = next(source.rglob("annotations/train/ct1-1.png"))
    mask = blocks((100, 0, 100), background=(0, 0, 0))
    mask[5 : 20 if many else 6, 28:30] = (7, 8, 9)
    save(path, mask)
    _, summary = prepared("abdominal_us", source)
    if many:
        assert summary["left_out"] == 1 and "(7, 8, 9)" in kinds(summary)["unknown"]
    else:
        assert summary["left_out"] == 0 and "(7, 8, 9) (2 pixels)" in kinds(summary)["unknown colour"]


@pytest.mark.parametrize("what", ["shape", "place", "fractions", "empty"])
def test_a_label_that_does_not_fit_its_volume_is_left_out(what, tree, prepared):
    source = tree("amos22")
    path = source / "amos22/labelsTr/amos_0001.nii.gz"
    moved = AFFINE.copy()
    moved[2, 3] += 1
    values, affine = {
        "shape": (ball(1)[..., :-1], AFFINE),
        "place": (ball(1), moved),
        "fractions": (ball(1) * np.float32(0.5), AFFINE),
        "empty": (ball(), AFFINE),
    }[what]
    save_volume(path, values, affine)
    _, summary = prepared("amos22", source)
    assert summary["left_out"] == 1
    kind = {"shape": "grids differ", "place": "grids differ", "fractions": "unusable", "empty": "empty label"}[what]
    assert "amos_0001" in kinds(summary)[kind]


def test_whole_numbers_in_a_float_file_are_labels(tree, prepared):
    source = tree("amos22")
    save_volume(source / "amos22/labelsTr/amos_0001.nii.gz", ball(1, 6).astype(np.float32))
    _, summary = prepared("amos22", source)
    assert summary["left_out"] == 0


def test_an_affine_off_by_rounding_is_the_same_grid(tree, prepared):
    source = tree("amos22")
    save_volume(source / "amos22/labelsTr/amos_0001.nii.gz", ball(1), AFFINE + 1e-4 * np.eye(4))
    _, summary = prepared("amos22", source)
    assert summary["left_out"] == 0


def test_a_volume_that_cannot_be_placed(tree, prepared):
    source = tree("pairs", lambda root: None)
    for i in range(3):
        flat = nib.Nifti1Image(np.zeros((4, 4), dtype=np.uint8), np.eye(4))
        for kind in ("images", "labels"):
            (source / kind).mkdir(exist_ok=True)
            nib.save(flat, source / kind / f"{i}.nii.gz")
    with pytest.raises(ValueError, match="none of 3 cases can be used"):
        prepared("pairs", source)


def test_totalsegmentator_with_missing_organs(tree, prepared):
    source = tree("totalsegmentator")
    (source / "s0001/segmentations/liver.nii.gz").unlink()
    _, summary = prepared("totalsegmentator", source)
    assert summary["cases"] == 3
    assert "1 of 3 masks missing (liver" in kinds(summary)["missing pair"]
    assert "117 structures" in " ".join(p["text"] for p in summary["problems"])


def test_an_output_that_holds_something_else_is_not_touched(tree, prepared, tmp_path):
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="holds something else"):
        prepared("glas", tree("glas"))
    assert [p.name for p in (tmp_path / "prepared").iterdir()] == ["thesis.tex"]


def test_an_output_in_the_source_is_refused(tree, prepared):
    source = tree("glas")
    for output in ("source/glas", "source/glas/prepared"):
        with pytest.raises(ValueError, match="lies in the source"):
            prepared("glas", source, output)


def test_an_output_of_other_settings_is_refused(tree, prepared):
    source = tree("glas")
    prepared("glas", source)
    with pytest.raises(ValueError, match=r"prepared otherwise \(seed was 0, now 1\)"):
        prepared("glas", source, seed=1)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("amos22", {"choices": Choices(modality="PET")}, "expected CT or MR"),
        ("brats", {"choices": Choices(contrast="dwi")}, "--contrast dwi: expected flair"),
        ("nnunet", {"choices": Choices(contrast="CT")}, "the data set has 0 T2, 1 ADC"),
        ("pairs", {"choices": Choices(images="*.png")}, "expected both or none"),
        ("pairs", {"choices": Choices(images="a/*/*.png", masks="b/*.png")}, "with one \\*"),
        ("pairs", {"choices": Choices(labels={"1000": "x"})}, "up to 255"),
        ("nnunet", {"choices": Choices(labels={"tumour": [1, 2]})}, "regions of several values"),
        ("pairs", {"split_by": "official"}, "use --split seed"),
    ],
)
def test_options_that_do_not_fit(name, options, message, tree, prepared, tmp_path):
    with pytest.raises(ValueError, match=message):
        prepared(name, tree(name), **options)
    assert not (tmp_path / "prepared").exists()


def test_a_broken_dataset_json(tree, prepared):
    source = tree("decathlon")
    (source / "dataset.json").write_text('{"training": [')
    with pytest.raises(ValueError, match="dataset.json: not valid JSON"):
        prepared("decathlon", source)


def test_files_that_decathlon_lists_and_that_are_not_there(tree, prepared):
    source = tree("decathlon")
    (source / "labelsTr/prostate_02.nii.gz").unlink()
    _, summary = prepared("decathlon", source)
    assert summary["cases"] == 2 and "prostate_02" in kinds(summary)["missing pair"]


def test_a_label_that_covers_its_picture_is_noted(prepared, tmp_path):
    source = tmp_path / "white"
    for part in ("images", "masks"):
        (source / part).mkdir(parents=True)
        for i in range(2):
            white = np.full((20, 30), 255, np.uint8)
            Image.fromarray(white if part == "masks" else np.arange(30, dtype=np.uint8) * np.ones_like(white)).save(
                source / part / f"{i}.png"
            )
    _, summary = prepared("pairs", source, choices=Choices(labels={"1": "gland"}))
    assert [p["kind"] for p in summary["problems"]] == ["whole image"] * 2
