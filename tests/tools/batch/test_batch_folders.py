# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Jobs from a folder by a pattern, and from a tree of DICOM files by their tags."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from dicom_files import ROOT, write_series
from two_balls import PAIR
from volumes import grid_around, rotation, write_itk, write_nifti

from common.reading.options import BYTES_A_VOXEL
from tools.batch.configuration import Configurations
from tools.batch.dicom_tree import rows_of
from tools.batch.folder import images_in
from tools.batch.jobs import read_job
from tools.batch.memory import LAYERS, needed

# Slices in the order in which DICOM counts them: their normal is that of rows and columns.
GRID = grid_around(rotation(10, 20, 5) @ np.diag([2.0, 2.0, 3.0]), (50, 44, 24))
VALUES, TRUTH = PAIR.image(GRID).round(), PAIR.truth(GRID)


def test_images_of_a_folder_are_named_by_their_paths(ball, tmp_path):
    for place in ("p1/t1.nii.gz", "p1/t2.nii.gz", "p2/deep/t1.nii.gz", ".hidden/t1.nii.gz", "out/masks/t1.nii.gz"):
        (tmp_path / "scans" / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ball, tmp_path / "scans" / place)
    for name in ("p1/x.png", "p1/x.jpg", "p1/notes.txt"):
        (tmp_path / "scans" / name).write_bytes(b"")
    scans, output = tmp_path / "scans", tmp_path / "scans" / "out"
    found = [row.cells["name"] for row in images_in(scans, None, output)]
    assert found == ["p1/t1", "p1/t2", "p1/x.jpg", "p1/x.png", "p2/deep/t1"]
    assert [row.cells["name"] for row in images_in(scans, "**/t1.nii.gz", output)] == ["p1/t1", "p2/deep/t1"]
    with pytest.raises(ValueError, match=r"none of 0 paths is an image .* another --pattern, or --dicom_tree"):
        images_in(scans, "*.mha", output)


def test_paths_with_the_name_of_the_job(tmp_path):
    (row,) = images_in(written(tmp_path / "scans" / "p1" / "t1.nii.gz"), None, tmp_path / "out")
    asked = {"mask": "masks/{name}_{stem}.nii.gz", "boxes": "/b/{stem}.json", "labels": ["liver"]}
    job = read_job(row, Configurations("fastsam3d", {}), asked, tmp_path)
    assert not job.problem and job.name == "p1/t1" and "labels" not in job.request
    assert job.request["mask"] == str(tmp_path / "masks" / "p1/t1_t1.nii.gz") and job.request["boxes"] == "/b/t1.json"


def written(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, PAIR.image(GRID), GRID)
    return path.parents[1]


def about(series, study, description):
    def edit(made, k):
        made.StudyInstanceUID, made.SeriesDescription = f"{ROOT}.{study}", description
        made.FrameOfReferenceUID = f"{ROOT}.77"

    return {"series": f"{ROOT}.{series}", "edit": edit}


@pytest.fixture
def tree(tmp_path):
    """Two studies: a series of its own folder, one over two folders, two in one folder, a localizer, a broken file."""
    top = tmp_path / "archive"
    write_series(top / "a" / "one", VALUES, GRID, **about(11, 1, "alone"))
    half = GRID.shape[2] // 2
    write_series(top / "a" / "two" / "x", VALUES, GRID, range(half), **about(12, 1, "halves"))
    write_series(top / "a" / "two" / "y", VALUES, GRID, range(half, GRID.shape[2]), **about(12, 1, "halves"))
    write_series(top / "b", VALUES, GRID, name="P{}.dcm", **about(13, 2, "mixed"))
    write_series(top / "b", VALUES, GRID, range(0, 24, 3), name="Q{}.dcm", **about(14, 2, "thick"))
    scout = about(15, 2, "scout")
    edit = scout["edit"]
    scout["edit"] = lambda made, k: (edit(made, k), setattr(made, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    write_series(top / "c", VALUES, GRID, [3], **scout)
    whole = (top / "a" / "one" / "IM0500.dcm").read_bytes()
    (top / "d").mkdir()
    (top / "d" / "cut.dcm").write_bytes(whole[:1500])
    (top / "readme.txt").write_text("no image")
    return top


def test_series_are_found_by_their_tags(tree):
    rows, aside = rows_of(tree, volumes=True)
    found = {row.cells["name"].removeprefix(f"{ROOT}.").replace(f"/{ROOT}.", "/"): row for row in rows}
    assert list(found) == ["1/11", "1/12", "2/13", "2/14", "2/15", "broken/d"]
    assert not any(found[name].problem for name in ("1/11", "1/12", "2/13", "2/14"))
    assert found["1/12"].cells["image"] == str(tree / "a" / "two") and "series" not in found["1/12"].cells
    assert found["2/13"].cells["series"] == f"{ROOT}.13" and found["2/13"].cells["description"] == "mixed"
    assert "localizer" in found["2/15"].problem and aside == {found["2/15"].cells["name"]}
    assert "1 files cannot be read as DICOM (cut.dcm: " in found["broken/d"].problem
    pictures, aside = rows_of(tree, volumes=False)
    assert len(pictures) == 3 * GRID.shape[2] + 8 + 1 + 1 and not aside
    assert pictures[0].cells["name"].startswith(f"{ROOT}.1/{ROOT}.11/IM")
    with pytest.raises(ValueError, match="no DICOM image in this tree"):
        rows_of(tree.parent / "archive" / "no", volumes=True)


def test_a_tree_is_segmented_and_what_is_wrong_with_it_named(tree, fast_batch, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for series in (11, 12, 13):
        write_nifti(masks / f"{ROOT}.{series}.nii.gz", TRUTH.astype(np.uint8), GRID)
    write_nifti(masks / f"{ROOT}.14.nii.gz", TRUTH.astype(np.uint8), GRID)
    further = ("--dicom", '["seg", "rtstruct"]', "--mesh", "stl")
    code, rows = fast_batch(
        tree, tmp_path / "out", "--dicom_tree", "--mask", masks / "{stem}.nii.gz", "--worst", 1, *further
    )
    named = {name.rpartition(".")[2]: row for name, row in rows.items()}
    assert code == 3
    assert [named[n]["status"] for n in ("11", "12", "13")] == ["done"] * 3, named
    assert named["14"]["status"] == "failed" and "expected its grid" in named["14"]["reason"]
    assert named["15"]["status"] == "left out" and rows["broken/d"]["status"] == "refused"
    assert named["12"]["kept"]["description"] == "halves" and named["12"]["kept"]["modality"] == "CT"
    for n in ("11", "12", "13"):
        assert {".json", ".gz", ".dcm", ".stl"} == {name[name.rindex(".") :] for name in named[n]["files"]}
        (told,) = named[n]["objects"]
        assert sum(name.endswith(".dcm") for name in named[n]["files"]) == 2 and len(told) > 6, told
    described = tmp_path / "out" / "masks" / f"{ROOT}.1" / f"{ROOT}.12" / "two_seg.json"
    assert json.loads(described.read_text())["objects"][0]["prompts"]["points"]
    code, _ = fast_batch(tree, tree / "out", "--dicom_tree")
    assert code == 1


def test_memory_is_estimated_by_headers(ball, tree, tmp_path):
    each = (needed(str(ball)) - LAYERS) / nib.load(ball).get_fdata().size
    assert each >= BYTES_A_VOXEL
    write_itk(tmp_path / "x.mha", VALUES, GRID)
    write_itk(tmp_path / "x.nrrd", VALUES, GRID)
    for place in (tree / "a" / "one", tree / "a" / "two", tmp_path / "x.mha", tmp_path / "x.nrrd"):
        assert needed(str(place)) == LAYERS + each * VALUES.size
    assert needed(str(tmp_path / "no.nii")) == 0
