# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Resuming, working in parallel, resampling, and the command line."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from data_set_trees import AFFINE, SHAPE, ball, photograph, save
from PIL import Image

from tools.prepare_data import run
from tools.prepare_data.__main__ import main
from tools.prepare_data.catalogue import DATA_SETS
from tools.prepare_data.prepare import prepare_case

SHARED = Path(__file__).parents[4] / "shared" / "data"


class Killed(Exception):
    pass


def test_a_stopped_run_goes_on_where_it_was(tree, prepared, tmp_path, monkeypatch):
    source, seen = tree("cholecseg8k"), []

    def counted(case, conversion):
        if len(seen) == 3:
            raise Killed
        seen.append(case.name)
        return prepare_case(case, conversion)

    monkeypatch.setattr(run, "prepare_case", counted)
    with pytest.raises(Killed):
        prepared("cholecseg8k", source)
    assert not (tmp_path / "prepared" / "data_list.json").exists()
    # What a kill in the middle of writing a file leaves.
    (tmp_path / "prepared" / "labels" / ".writing_x").mkdir()
    monkeypatch.setattr(
        run, "prepare_case", lambda case, conversion: (seen.append(case.name), prepare_case(case, conversion))[1]
    )
    folder, summary = prepared("cholecseg8k", source)
    assert len(seen) == len(set(seen)) == 8 and summary["cases"] == 8
    assert not list(folder.rglob(".writing_*"))
    whole, _ = prepared("cholecseg8k", source, "whole")
    assert (folder / "data_list.json").read_text() == (whole / "data_list.json").read_text()


def test_only_what_changed_is_prepared_again(tree, prepared, monkeypatch):
    source, seen = tree("pairs"), []
    good = (source / "masks/1.png").read_bytes()
    (source / "masks/1.png").write_bytes(b"broken")
    assert prepared("pairs", source)[1]["left_out"] == 1
    monkeypatch.setattr(
        run, "prepare_case", lambda case, conversion: (seen.append(case.name), prepare_case(case, conversion))[1]
    )
    (source / "masks/1.png").write_bytes(good)
    save(source / "images/2.png", photograph(77))
    assert prepared("pairs", source)[1]["left_out"] == 0
    assert seen == ["1", "2"]


def test_several_processes_give_what_one_gives(tree, prepared):
    source = tree("cholecseg8k")
    one, two = (prepared("cholecseg8k", source, f"{n}", workers=n)[0] for n in (1, 2))
    for path in one.rglob("*"):
        if path.is_file() and path.name != "prepared.json":
            assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()


def test_pictures_are_resampled_with_masks_that_keep_their_values(tree, prepared):
    folder, _ = prepared("abdominal_us", tree("abdominal_us"), size=16)
    for item in json.loads((folder / "data_list.json").read_text())["training"]:
        image, label = (np.asarray(Image.open(folder / item[key])) for key in ("image", "label"))
        assert image.shape == (12, 16, 3) and label.shape == (12, 16)
        assert set(np.unique(label)) == {0, 1, 2, 4}


def test_pictures_of_16_bits_keep_their_depth(tree, prepared):
    source = tree("pairs")
    for path in (source / "images").iterdir():
        save(path, np.full((24, 32), 40000, dtype=np.uint16))
    folder, _ = prepared("pairs", source, size=16)
    image = np.asarray(Image.open(folder / "images" / "0.png"))
    assert image.shape == (12, 16) and image.dtype == np.uint16 and (image == 40000).all()


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (0.7, 3.0, 1.0)])
def test_volumes_are_resampled_in_place(spacing, tree, prepared):
    source = tree("totalsegmentator")
    folder, _ = prepared("totalsegmentator", source, spacing=spacing)
    image, label = (nib.load(folder / k / "s0001.nii.gz") for k in ("images", "labels"))
    assert np.allclose(nib.affines.voxel_sizes(image.affine), spacing, atol=1e-4)
    assert np.array_equal(image.affine, label.affine) and image.shape == label.shape
    values = np.asarray(label.dataobj)
    assert set(np.unique(values)) <= {0, 1, 2, 3}
    voxels = np.stack(np.meshgrid(*map(np.arange, label.shape), indexing="ij"), axis=-1)
    places = nib.affines.apply_affine(np.linalg.inv(AFFINE) @ label.affine, voxels)
    # The outer corners stay where they are, up to the half voxel that a whole number of voxels needs.
    assert np.abs(places[0, 0, 0] - np.array(spacing) / nib.affines.voxel_sizes(AFFINE) / 2 + 0.5).max() < 1e-4
    assert (np.array(label.shape) == np.round(SHAPE * nib.affines.voxel_sizes(AFFINE) / spacing)).all()
    # Each voxel has the value of the stored voxel in which its centre lies; where that is not on an edge.
    clear = (np.abs(places - np.floor(places) - 0.5) > 1e-3).all(axis=-1)
    nearest = np.clip(places.round().astype(int), 0, np.array(SHAPE) - 1)
    assert np.array_equal(values[clear], ball(1, 2, 3)[tuple(np.moveaxis(nearest, -1, 0))][clear])


def test_files_stay_in_place_where_nothing_has_to_change(tree, prepared):
    source = tree("amos22")
    folder, _ = prepared("amos22", source)
    assert sorted(p.name for p in folder.iterdir()) == [
        "cases",
        "data_list.json",
        "prepared.json",
        "report.md",
        "summary.json",
    ]


def test_the_command_tells_where_everything_is(tree, tmp_path, capsys):
    source, output = tree("glas"), tmp_path / "out"
    arguments = ["glas", str(source), str(output), "--workers", "1", "--no-progress", "--split", "official"]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "6 cases (3 training, 1 validation, 2 test images), 0 left out" in told
    assert str(output / "data_list.json") in told and str(output / "report.md") in told
    assert main(["glas", str(tmp_path), str(output)]) == 1
    assert "lies in the source" in capsys.readouterr().err
    assert main([*arguments, "--spacing", "1", "2"]) == 1
    assert "expected one positive number or three" in capsys.readouterr().err


def test_help_tells_all_about_every_data_set(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    for name, data_set in DATA_SETS.items():
        assert f"\n{name}\n" in told
        assert all(len("".join(text)) > 2 for text in data_set.about[:5])
    assert told.count("  licence ") == told.count("  size ") == told.count("  source ") == len(DATA_SETS)


def test_the_report_is_one_that_a_person_reads(tree, prepared):
    source = tree("amos22")
    (source / "amos22/imagesTr/amos_0004.nii.gz").write_bytes(b"x")
    text = (prepared("amos22", source)[0] / "report.md").read_text()
    assert "4 cases used, 1 left out" in text
    assert f"| size (pixels) | {SHAPE[0]} x {SHAPE[1]} x {SHAPE[2]} |" in text
    assert "| spleen | 4 |" in text and "| right kidney | 0 | - | - | - |" in text
    assert "### cannot be read (1)" in text and "### label never present (12)" in text


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real samples are not beside the project (../shared/data)")
@pytest.mark.parametrize(
    "name, folder, cases, label, with_it",
    [
        ("busi", "busi_breast_us", 30, "benign tumour", 21),
        ("edd2020", "edd2020_endoscopy", 22, "polyp", 1),
        ("sam_med2d_demo", "sam_med2d_demo", 4, "hip left", 1),
        ("sts_sarcoma", "sts_sarcoma", 10, "soft-tissue sarcoma", 10),
        ("sct_spinalcord", "sct_spinalcord", 2, "spinal cord", 1),
        ("totalseg_example", "totalseg_example", 3, "aorta", 3),
    ],
)
def test_the_real_samples(name, folder, cases, label, with_it, prepared):
    _, summary = prepared(name, SHARED / folder, split_by="seed")
    assert (summary["cases"], summary["left_out"]) == (cases, 0)
    assert summary["labels"][label]["cases"] == with_it
