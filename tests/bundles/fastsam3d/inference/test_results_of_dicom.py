# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""DICOM, surfaces and numbers beside the mask, by monai.bundle run and by a session."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from dicom_files import ROOT, write_series
from volumes import Phantom, grid_around, rotation, write_nifti

from bundles.fastsam3d.scripts.session import Engine, Session
from common.result_files import is_result

hd = pytest.importorskip("highdicom")

GRID = grid_around(rotation(10, 20, 5) @ np.diag([-2.0, -2.0, 3.0]), (48, 44, 24))
BALL = Phantom(((12, -30, 45), (14, 16, 12)))
CLICK = [round(x) for x in BALL.click(GRID)]


def of_patient(made, k):
    made.FrameOfReferenceUID, made.PatientID = f"{ROOT}.99", "P1"


@pytest.fixture
def series(tmp_path):
    return write_series(tmp_path / "ct", np.rint(BALL.image(GRID)).astype(int), GRID, edit=of_patient)


def assert_same_place(mask, seg):
    """The voxels of the NIfTI, and of the DICOM segmentation's first segment, in scanner space."""
    volume = hd.seg.segread(seg).get_volume(segment_numbers=[1], combine_segments=True)
    ours = np.argwhere(np.asarray(mask.dataobj) == 1) @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    theirs = np.argwhere(volume.array) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    theirs *= [-1, -1, 1]
    assert len(ours) == len(theirs) > 100
    order = [np.lexsort(np.round(p, 2).T) for p in (ours, theirs)]
    np.testing.assert_allclose(ours[order[0]], theirs[order[1]], atol=0.01)


def test_a_run_writes_dicom_surfaces_and_numbers(run_bundle, series):
    objects = {"kidney_left": {"foreground": [CLICK]}, "a/b c": {"foreground": [[2, 2, 2]]}}
    mask, told = run_bundle(image=str(series), objects=objects, dicom=["seg", "rtstruct"], mesh="stl")
    folder = Path(mask.get_filename()).parent
    assert (told["dicom_seg"], told["rtstruct"]) == ("ct_seg.dcm", "ct_seg_rtstruct.dcm")
    assert_same_place(mask, folder / told["dicom_seg"])
    segments = pydicom.dcmread(folder / told["dicom_seg"]).SegmentSequence
    assert segments[0].SegmentLabel == "kidney_left" and segments[0].SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert segments[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "fastsam3d"
    assert pydicom.dcmread(folder / told["rtstruct"]).StructureSetROISequence[0].ROIName == "kidney_left"
    assert told["meshes"]["kidney_left"] == "ct_seg_kidney_left.stl"
    ball = told["objects"][0]
    assert ball["intensity"]["unit"] == "HU" and 0 < ball["intensity"]["mean"] < 100
    assert ball["longest_diameter_mm"] == pytest.approx(32, abs=4) and ball["surface_cm2"] == pytest.approx(24, rel=0.3)
    for name in (told["dicom_seg"], told["rtstruct"], *told["meshes"].values()):
        assert is_result(folder / name), name


def test_a_session_writes_the_same(series, threshold_network, run_bundle, tmp_path):
    torch.save(threshold_network.state_dict(), tmp_path / "stand_in.pt")
    weights = str(tmp_path / "stand_in.pt")
    engine = Engine.load(network_def=threshold_network, ckpt_path=weights, cube_size=32, device="cpu")
    session = Session(engine)
    session.set_image(series)
    session.rename_object("object 1", "liver")
    session.add_point_interaction(CLICK)
    written = session.export(tmp_path / "exported", dicom=["seg", "rtstruct"], mesh="ply")
    assert_same_place(nib.load(written), written.with_name("ct_seg.dcm"))
    told = json.loads(written.with_name("ct_seg.json").read_text())
    _, run = run_bundle(image=str(series), objects={"liver": {"foreground": [CLICK]}}, dicom="seg", mesh="ply")
    measured = (
        "surface_cm2",
        "longest_diameter_mm",
        "axial_diameter_mm",
        "axial_across_mm",
        "axial_slice",
        "intensity",
    )
    assert {k: told["objects"][0][k] for k in measured} == {k: run["objects"][0][k] for k in measured}
    assert told["meshes"] == run["meshes"] == {"liver": "ct_seg_liver.ply"}
    # Its own results may be replaced; other files of these names are not.
    session.export(tmp_path / "exported", dicom="seg")
    (tmp_path / "exported" / "ct_seg_liver.obj").write_text("mine")
    with pytest.raises(ValueError, match="ct_seg_liver.obj: is there already and is no result"):
        session.export(tmp_path / "exported", mesh="obj")
    assert (tmp_path / "exported" / "ct_seg_liver.obj").read_text() == "mine"


def test_other_images_are_refused_before_the_work(run_workflow, tmp_path):
    image = write_nifti(tmp_path / "x.nii.gz", BALL.image(GRID), GRID)
    with pytest.raises(Exception) as caught:
        run_workflow(image=str(image), foreground=[CLICK], dicom="seg")
    assert "x.nii.gz: is no DICOM image" in str(caught.value.__cause__ or caught.value)
    assert not list(tmp_path.glob("out*/*"))
    session = Session(Engine.load(device="cpu"))
    session.set_image(BALL.image(GRID), {"affine": GRID.affine})
    session.add_point_interaction(CLICK)
    with pytest.raises(ValueError, match="image: is no DICOM image, .*leave --dicom out"):
        session.export(tmp_path / "exported", dicom="rtstruct")


@pytest.mark.parametrize(("option", "value"), [("dicom", "nifti"), ("dicom", ["seg", 3]), ("mesh", "vtk")])
def test_other_forms_are_refused(run_workflow, series, option, value):
    with pytest.raises(Exception) as caught:
        run_workflow(image=str(series), foreground=[CLICK], **{option: value})
    assert f"{option} is " in str(caught.value.__cause__ or caught.value)


def test_an_empty_mask_is_no_error(run_bundle, series):
    _, told = run_bundle(image=str(series), objects={"nothing": {"foreground": [[1, 1, 1]]}}, dicom="seg", mesh="obj")
    assert "dicom_seg" not in told and told["meshes"] == {}
    assert any("no DICOM (seg) was written" in note for note in told["notes"])


def test_of_several_series_the_one_that_was_read_is_referred_to(run_bundle, series):
    other = np.rint(BALL.image(GRID)).astype(int)[::-1]
    write_series(series, other, GRID, edit=of_patient, series=f"{ROOT}.2", name="B{}.dcm")
    mask, told = run_bundle(image=str(series), foreground=[CLICK], series=f"{ROOT}.2", dicom=["seg", "rtstruct"])
    folder = Path(mask.get_filename()).parent
    seg, structures = (pydicom.dcmread(folder / told[name]) for name in ("dicom_seg", "rtstruct"))
    assert [s.SeriesInstanceUID for s in seg.ReferencedSeriesSequence] == [f"{ROOT}.2"]
    study = structures.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    assert study.RTReferencedSeriesSequence[0].SeriesInstanceUID == f"{ROOT}.2"
    assert_same_place(mask, folder / told["dicom_seg"])
    # In the folder of the images, results are no series of their own.
    again, told = run_bundle(image=str(series), foreground=[CLICK], series=f"{ROOT}.2", output_dir=str(series / "out"))
    _, told = run_bundle(
        image=str(series), foreground=[CLICK], series=f"{ROOT}.2", dicom="seg", output_dir=str(series / "more")
    )
    assert told["objects"][0]["voxels"] == np.count_nonzero(again.dataobj)


def test_a_tilted_gantry_is_said_in_the_notes(run_bundle, tmp_path):
    tilted = grid_around(np.array([[-2.0, 0, 0], [0, -2.0, 0.6], [0, 0, 3.0]]), (48, 44, 24))
    folder = write_series(tmp_path / "ct", np.rint(BALL.image(tilted)).astype(int), tilted, edit=of_patient)
    click = [round(x) for x in BALL.click(tilted)]
    _, told = run_bundle(image=str(folder), foreground=[click], dicom="rtstruct")
    assert any("the gantry was tilted" in note for note in told["notes"])
