# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""DICOM, surfaces and numbers beside the index map."""

import json

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_files import ROOT, write_series
from PIL import Image
from skimage.draw import polygon2mask
from volumes import grid_around, rotation

pytest.importorskip("highdicom")

SHAPE = (60, 48, 3)
GRID = grid_around(rotation(10, 20, 5) @ np.diag([-0.5, -0.8, 3.0]), SHAPE)
BLOCK = (slice(10, 40), slice(8, 28))


@pytest.fixture
def series(tmp_path):
    """Bright blocks, each slice a few pixels further."""
    values = np.full(SHAPE, -1000)
    for k in range(3):
        values[(slice(10 + 3 * k, 40 + 3 * k), BLOCK[1], k)] = 500

    def edit(made, k):
        made.FrameOfReferenceUID = f"{ROOT}.99"

    return write_series(tmp_path / "ct", values, GRID, edit=edit)


def test_each_slice_of_a_series_has_its_own(run_ssam, series):
    folder = run_ssam(image=series, labels=["bright"], dicom=["seg", "rtstruct"])
    for file in sorted(series.iterdir()):
        told = json.loads((folder / f"{file.name}_seg.json").read_text())
        assert (told["dicom_seg"], told["rtstruct"]) == (f"{file.name}_seg.dcm", f"{file.name}_seg_rtstruct.dcm")
        found = np.array(Image.open(folder / told["mask"])) > 0
        assert found.sum() > 500
        seg, image = pydicom.dcmread(folder / told["dicom_seg"]), pydicom.dcmread(file)
        np.testing.assert_array_equal(seg.pixel_array > 0, found)
        assert seg.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
        assert seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == (
            image.SOPInstanceUID
        )
        (contour,) = pydicom.dcmread(folder / told["rtstruct"]).ROIContourSequence[0].ContourSequence
        voxels = GRID.to_voxels(np.array(contour.ContourData, float).reshape(-1, 3) * [-1, -1, 1])
        np.testing.assert_array_equal(polygon2mask(SHAPE[:2], voxels[:, :2]).T, found)
        described = told["objects"][0]
        assert described["intensity"]["unit"] == "HU" and described["intensity"]["highest"] == 500
        assert described["diameter_mm"] == pytest.approx(np.hypot(30 * 0.5, 20 * 0.8), rel=0.1)


def test_pictures_and_other_volumes_are_refused_before_the_work(refused, tmp_path, series):
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "a.png")
    refused("a.png: is no DICOM image", image=tmp_path / "a.png", labels=["bright"], dicom="seg")
    refused("is a 2D image, which has no surface", image=series, labels=["bright"], mesh="stl")


def test_a_volume_has_surfaces_and_the_numbers_of_its_file(run_ssam, tmp_path):
    values = np.full((40, 36, 9), 100, np.int16)
    values[8:30, 6:26, 2:7] = 900
    nib.save(nib.Nifti1Image(values, np.diag([1, 1, 3, 1.0])), tmp_path / "v.nii.gz")
    folder = run_ssam(image=tmp_path / "v.nii.gz", labels=["bright"], mesh="obj")
    told = json.loads((folder / "v_seg.json").read_text())
    found = np.asarray(nib.load(folder / "v_seg.nii.gz").dataobj) > 0
    described = told["objects"][0]
    assert described["intensity"]["mean"] == pytest.approx(values[found].mean(), abs=1e-3)
    assert described["intensity"]["unit"] == "as stored"
    assert (folder / told["meshes"]["bright"]).read_text().startswith("# scanner space, mm, RAS")
