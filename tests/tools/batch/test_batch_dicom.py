# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""DICOM and surfaces of a batch, by the bundle's own options; an image that is no DICOM is a row with its reason."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
from dicom_files import ROOT, write_series
from two_balls import GRID, LEFT, PAIR

hd = pytest.importorskip("highdicom")


def test_each_image_has_what_was_asked_for(fast_batch, ball, tmp_path):
    def edit(made, k):
        made.FrameOfReferenceUID = f"{ROOT}.99"

    write_series(tmp_path / "ct", np.rint(PAIR.image(GRID)).astype(int)[:, :, ::-1], GRID, edit=edit)
    volume = nib.load(ball).shape
    click = [*(round(x) for x in LEFT[:2]), volume[2] - 1 - round(LEFT[2])]
    asked = {"objects": {"liver": {"foreground": [click]}}, "dicom": ["seg", "rtstruct"], "mesh": "ply"}
    jobs = [{"image": str(tmp_path / "ct"), **asked}, {"image": str(ball), **asked}]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)))
    code, rows = fast_batch(tmp_path / "jobs.jsonl", tmp_path / "out")
    assert code == 3 and rows["ball"]["status"] == "failed"
    assert "ball.nii.gz: is no DICOM image" in rows["ball"]["reason"]
    assert rows["ct"]["status"] == "done", rows["ct"]
    folder = tmp_path / "out" / "masks" / "ct"
    expected = {"ct_seg.nii.gz", "ct_seg.json", "ct_seg.dcm", "ct_seg_rtstruct.dcm", "ct_seg_liver.ply"}
    assert {f.name for f in folder.iterdir()} == set(rows["ct"]["files"]) == expected
    masks = hd.seg.segread(folder / "ct_seg.dcm").pixel_array
    assert masks.sum() == np.count_nonzero(nib.load(folder / "ct_seg.nii.gz").dataobj) > 0
    with open(tmp_path / "out" / "objects.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["intensity.unit"] == "HU" and float(row["surface_cm2"]) > 0 and float(row["axial_diameter_mm"]) > 0
