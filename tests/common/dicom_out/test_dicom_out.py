# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Segmentations and structure sets, read back by other programs and libraries: the masks lie where they were drawn."""

import shutil
import subprocess
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_files import ROOT, dataset, place, save, write_frames, write_series
from matplotlib.path import Path as Polygon
from scipy import ndimage
from skimage.draw import polygon2mask
from volumes import grid_around, rotation

from common.dicom_out.codes import TABLE, coded
from common.dicom_out.contours import outlines
from common.dicom_out.segmentation import write_segmentation
from common.dicom_out.segments import Maker, Segment
from common.dicom_out.source import picture_source, series_source
from common.dicom_out.structures import write_structures
from common.geometry import Grid
from common.reading.options import Reading
from common.reading.volume import read_volume

hd = pytest.importorskip("highdicom")

SHAPE = (24, 20, 9)
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
MAKER = Maker("fastsam3d", "0.1.0")
TILTED = np.array([[2.0, 0, 0], [0, 2.0 * np.cos(0.3), 0], [0, -2.0 * np.sin(0.3), 3.0]])
GRIDS = {
    "axial": np.diag([-2.0, -2.0, 3.0]),
    "feet first, prone": np.diag([-1.0, 1.0, -3.0]),
    "anisotropic": np.diag([-0.6, -0.7, 5.0]),
    "sagittal": np.diag([2.0, -1.5, -1.2])[:, [1, 2, 0]],
    "oblique": rotation(20, -35, 50) @ np.diag([-1.1, -1.2, 2.5]),
    "tilted gantry": TILTED * [-1, -1, 1],
}


def patient(made, k):
    """What clinical images say and write_series leaves out."""
    made.FrameOfReferenceUID = f"{ROOT}.99"
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = "Muster^Eva", "P1", "19700101", "F"
    made.StudyDate, made.StudyTime, made.StudyID, made.AccessionNumber = "20260101", "120000", "S1", "A1"
    made.ReferringPhysicianName = "Arzt^A"


def siemens(made, k):
    """From the feet on, and numbered so."""
    patient(made, k)
    made.Manufacturer, made.SliceLocation = "SIEMENS", float(made.ImagePositionPatient[2])


def ge(made, k):
    """From the head on, numbered against the slices; locations without a sign that helps."""
    patient(made, k)
    made.Manufacturer, made.InstanceNumber, made.SliceLocation = "GE MEDICAL SYSTEMS", 100 - k, abs(k - 4.0)


def philips(made, k):
    """Numbers that jump, no location, a scale that is not 1, two acquisitions in one series."""
    patient(made, k)
    made.Manufacturer, made.InstanceNumber = "Philips", (k * 5) % 9 + 1
    made.SpacingBetweenSlices = made.SliceThickness
    made.AcquisitionNumber = 1 + k // 5


def drawn():
    """(X, Y, Z): a cloud of many parts that touch by corners, and a block with two holes and an island in one."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 1.2)
    labels = np.where(noise > 0.05, 1, 0).astype(np.uint8)
    block = np.zeros(SHAPE, bool)
    block[4:20, 3:17, 2:7] = True
    block[7:12, 6:11, 2:7] = False
    block[9:11, 8:10, 3:6] = True
    block[14:17, 6:13, 3:5] = False
    labels[block] = 2
    return labels


LABELS = drawn()
VALUES = np.random.default_rng(1).integers(-1000, 2000, SHAPE)
SEGMENTS = [Segment(1, "liver", False, (1, 0.7, 0)), Segment(2, "Kidney_left", True, (0, 0.76, 1))]


def written(folder, name="axial", edit=patient, labels=LABELS, segments=SEGMENTS):
    """The series, its grid as it is read, and what was written of it."""
    source_folder = write_series(folder / "series", VALUES, grid_around(GRIDS[name], SHAPE), edit=edit)
    volume = read_volume(source_folder)
    source = series_source(source_folder, Reading())
    write_segmentation(folder / "seg.dcm", labels, segments, source, MAKER)
    write_structures(folder / "rt.dcm", labels, segments, source, MAKER)
    return Grid(volume.affine.numpy(), SHAPE), source


def onto(grid, affine, values):
    """A mask on another grid whose voxels are some of ours: (X, Y, Z) bool of ours."""
    found = np.zeros(grid.shape, bool)
    voxels = grid.to_voxels(Grid(affine, values.shape).to_mm(np.argwhere(values)))
    np.testing.assert_allclose(voxels, np.rint(voxels), atol=0.01)
    found[tuple(np.rint(voxels).astype(int).T)] = True
    assert found.sum() == np.count_nonzero(values)
    return found


def assert_sound(*files):
    """By David Clunie's validator, where it is installed."""
    if (program := shutil.which("dciodvfy")) is None:
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools")
    for file in files:
        said = subprocess.run([program, "-new", str(file)], capture_output=True, text=True, timeout=60)
        assert "Error" not in said.stdout + said.stderr, said.stdout + said.stderr


def contours(file, number):
    """(slice of our grid is not known here) -> [(SOPInstanceUID, frame, (n, 3) mm in LPS)] of a region."""
    made = pydicom.dcmread(file)
    (region,) = [r for r in made.ROIContourSequence if r.ReferencedROINumber == number]
    for contour in region.ContourSequence:
        assert contour.ContourGeometricType == "CLOSED_PLANAR"
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        assert len(points) == contour.NumberOfContourPoints
        image = contour.ContourImageSequence[0]
        yield image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber"), points


def rasterised(file, number, grid, inside):
    """(X, Y, Z) bool: which centres lie inside an odd number of contours."""
    found = np.zeros(grid.shape, bool)
    for _, _, points in contours(file, number):
        voxels = grid.to_voxels(points * [-1, -1, 1])
        (k,) = set(np.rint(voxels[:, 2]).astype(int))
        assert np.abs(voxels[:, 2] - k).max() < 1e-3
        found[:, :, k] ^= inside(voxels[:, :2])
    return found


def by_skimage(polygon):
    return polygon2mask(SHAPE[:2], polygon)


def by_matplotlib(polygon):
    centres = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE[:2]), indexing="ij"), axis=-1).reshape(-1, 2)
    return Polygon(np.concatenate([polygon, polygon[:1]])).contains_points(centres).reshape(SHAPE[:2])


# ---- read back


@pytest.mark.parametrize("name", GRIDS)
def test_highdicom_reads_the_masks_where_they_were_drawn(tmp_path, name):
    grid, _ = written(tmp_path, name)
    seg = hd.seg.segread(tmp_path / "seg.dcm")
    frames = seg.pixel_array
    found = np.zeros(SHAPE, np.uint8)
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        segment = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        i, j, k = grid.to_voxels(position * [-1, -1, 1])
        assert np.allclose([i, j, k], [0, 0, round(k)], atol=1e-3)
        found[:, :, round(k)][frame.T > 0] = segment
    np.testing.assert_array_equal(found, LABELS)
    if name == "tilted gantry":
        return
    for number in (1, 2):
        volume = seg.get_volume(segment_numbers=[number], combine_segments=True)
        np.testing.assert_array_equal(onto(grid, RAS_TO_LPS @ volume.affine, volume.array), LABELS == number)


@pytest.mark.parametrize("name", [n for n in GRIDS if n != "tilted gantry"])
def test_itk_reads_a_segment_where_it_was_drawn(tmp_path, name):
    grid, _ = written(tmp_path, name, segments=SEGMENTS[1:])
    image = itk.imread(str(tmp_path / "seg.dcm"), imageio=itk.GDCMImageIO.New())
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    values = itk.array_from_image(image).T
    np.testing.assert_array_equal(onto(grid, RAS_TO_LPS @ affine, values > 0), LABELS == 2)


@pytest.mark.parametrize("name", [n for n in GRIDS if n != "tilted gantry"])
def test_dcmqi_reads_the_segments_where_they_were_drawn(tmp_path, name):
    pytest.importorskip("dcmqi")
    grid, _ = written(tmp_path, name)
    program = shutil.which("segimage2itkimage", path=str(Path(shutil.sys.executable).parent)) or "segimage2itkimage"
    (tmp_path / "dcmqi").mkdir()
    given = ["--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path / "dcmqi", "--outputType", "nii"]
    subprocess.run([program, *map(str, given)], check=True, capture_output=True, timeout=60)
    for number in (1, 2):
        image = nib.load(tmp_path / "dcmqi" / f"{number}.nii.gz")
        found = onto(grid, image.affine, np.asarray(image.dataobj) > 0)
        np.testing.assert_array_equal(found, LABELS == number)


@pytest.mark.parametrize("inside", [by_skimage, by_matplotlib])
@pytest.mark.parametrize("name", GRIDS)
def test_contours_hold_the_masks_voxels_and_no_others(tmp_path, name, inside):
    grid, _ = written(tmp_path, name)
    for number in (1, 2):
        np.testing.assert_array_equal(rasterised(tmp_path / "rt.dcm", number, grid, inside), LABELS == number)


@pytest.mark.parametrize("name", [n for n in GRIDS if n != "tilted gantry"])
def test_plastimatch_reads_the_contours_as_the_masks(tmp_path, name):
    if (program := shutil.which("plastimatch")) is None:
        pytest.skip("plastimatch is not installed: apt-get install plastimatch")
    grid, _ = written(tmp_path, name)
    given = ["--input", tmp_path / "rt.dcm", "--referenced-ct", tmp_path / "series", "--prefix-format", "nii.gz"]
    command = [program, "convert", *map(str, given), "--output-prefix", str(tmp_path / "masks")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    for number, label in ((1, "liver"), (2, "Kidney_left")):
        image = nib.load(tmp_path / "masks" / f"{label}.nii.gz")
        found = onto(grid, image.affine, np.asarray(image.dataobj) > 0)
        np.testing.assert_array_equal(found, LABELS == number)


@pytest.mark.parametrize("vendor", [siemens, ge, philips])
@pytest.mark.parametrize("name", ["axial", "oblique"])
def test_every_mask_refers_to_the_image_that_it_lies_on(tmp_path, vendor, name):
    grid, _ = written(tmp_path, name, edit=vendor)
    at = {}
    for file in (tmp_path / "series").iterdir():
        made = pydicom.dcmread(file)
        at[made.SOPInstanceUID] = round(grid.to_voxels(np.array(made.ImagePositionPatient) * [-1, -1, 1])[2])
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    for frame, groups in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        image = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        np.testing.assert_array_equal(frame.T > 0, LABELS[:, :, at[image]] == number)
    for number in (1, 2):
        for image, _, points in contours(tmp_path / "rt.dcm", number):
            assert {at[image]} == set(np.rint(grid.to_voxels(points * [-1, -1, 1])[:, 2]).astype(int))
    referenced = pydicom.dcmread(tmp_path / "rt.dcm").ReferencedFrameOfReferenceSequence[0]
    series = referenced.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert {i.ReferencedSOPInstanceUID for i in series.ContourImageSequence} == set(at)
    assert_sound(tmp_path / "seg.dcm", tmp_path / "rt.dcm")


@pytest.mark.parametrize("name", GRIDS)
def test_the_validator_finds_no_error(tmp_path, name):
    written(tmp_path, name)
    assert_sound(tmp_path / "seg.dcm", tmp_path / "rt.dcm")


def test_masks_of_an_enhanced_file_refer_to_its_frames(tmp_path):
    grid = grid_around(GRIDS["oblique"], SHAPE)
    order = [4, 0, 8, 1, 7, 2, 6, 3, 5]
    file = write_frames(tmp_path / "frames.dcm", VALUES, grid, order)
    made = pydicom.dcmread(file)
    patient(made, 0)
    save(made, file)
    grid = Grid(read_volume(file).affine.numpy(), SHAPE)
    source = series_source(file, Reading())
    write_segmentation(tmp_path / "seg.dcm", LABELS, SEGMENTS, source, MAKER)
    write_structures(tmp_path / "rt.dcm", LABELS, SEGMENTS, source, MAKER)
    seg = hd.seg.segread(tmp_path / "seg.dcm")
    for number in (1, 2):
        volume = seg.get_volume(segment_numbers=[number], combine_segments=True)
        np.testing.assert_array_equal(onto(grid, RAS_TO_LPS @ volume.affine, volume.array), LABELS == number)
        np.testing.assert_array_equal(rasterised(tmp_path / "rt.dcm", number, grid, by_skimage), LABELS == number)
        for _, frame, points in contours(tmp_path / "rt.dcm", number):
            (k,) = set(np.rint(grid.to_voxels(points * [-1, -1, 1])[:, 2]).astype(int))
            assert source.frames[k] == (0, frame - 1)
    assert_sound(tmp_path / "seg.dcm", tmp_path / "rt.dcm")


# ---- what they say


def test_segments_say_what_they_are_and_who_made_them(tmp_path):
    segments = [*SEGMENTS[:1], SEGMENTS[1]._replace(name="Milz-Läsion 脾")]
    written(tmp_path, segments=segments)
    liver, other = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    assert liver.SegmentLabel == "liver" and other.SegmentLabel == "Milz-Läsion 脾"
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    assert other.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99SAMBUNDLES"
    assert (liver.SegmentAlgorithmType, other.SegmentAlgorithmType) == ("SEMIAUTOMATIC", "AUTOMATIC")
    algorithm = liver.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == MAKER
    lab = liver.RecommendedDisplayCIELabValue
    assert hd.color.CIELabColor.from_dicom_value(lab).to_rgb() == pytest.approx((255, 178, 0), abs=2)
    made = pydicom.dcmread(tmp_path / "rt.dcm")
    assert [r.ROIName for r in made.StructureSetROISequence] == ["liver", "Milz-Läsion 脾"]
    assert list(made.ROIContourSequence[0].ROIDisplayColor) == [255, 178, 0]
    for name in ("rt.dcm", "seg.dcm"):
        made = pydicom.dcmread(tmp_path / name)
        assert made.PatientID == "P1" and made.StudyInstanceUID == ROOT and made.FrameOfReferenceUID == f"{ROOT}.99"
    assert_sound(tmp_path / "seg.dcm", tmp_path / "rt.dcm")


def test_a_side_of_the_body_is_said(tmp_path):
    written(tmp_path)
    kidney = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0]
    assert kidney.CodeValue == "64033007"
    assert kidney.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"


def test_patients_names_of_other_alphabets_stay(tmp_path):
    def mueller(made, k):
        patient(made, k)
        made.SpecificCharacterSet, made.PatientName = "ISO_IR 100", "Müller^Jürgen"

    written(tmp_path, edit=mueller)
    for name in ("seg.dcm", "rt.dcm"):
        assert str(pydicom.dcmread(tmp_path / name).PatientName) == "Müller^Jürgen"


def test_codes_are_those_of_dicoms_dictionary():
    from pydicom.sr._concepts_dict import concepts

    by_code = {}
    for words in concepts["SCT"].values():
        for code, (meaning, *_) in words.items():
            by_code.setdefault(code, set()).add(meaning.lower())
    for name, (category, kind, _) in TABLE.items():
        assert kind.meaning.lower() in by_code[kind.value], (name, kind, by_code.get(kind.value))
        assert category.meaning.lower() in by_code[category.value]


@pytest.mark.parametrize(
    ("name", "value", "side"),
    [
        ("Liver", "10200004", None),
        ("kidney_left", "64033007", "Left"),
        ("right kidney", "64033007", "Right"),
        ("left ventricle", "87878005", None),
        ("tumour", "108369006", None),
        ("Small bowel", "30315005", None),
    ],
)
def test_names_are_understood(name, value, side):
    found = coded(name)
    assert found.kind.value == value and (found.side.meaning if found.side else None) == side


def test_other_names_have_a_code_of_their_own():
    one, same, other = coded("left thing"), coded("Left_thing"), coded("right thing")
    assert one.kind.scheme == "99SAMBUNDLES" and one.kind.meaning == "left thing"
    assert one.kind.value == same.kind.value != other.kind.value and len(one.kind.value) <= 16


# ---- outlines


@pytest.mark.parametrize("seed", range(20))
def test_outlines_of_any_mask(seed):
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.standard_normal(SHAPE[:2]), rng.uniform(0, 2)) > 0
    for inside in (by_skimage, by_matplotlib):
        found = np.zeros(mask.shape, bool)
        for polygon in outlines(mask):
            part = inside(polygon)
            assert not (part & found).any(), "no two polygons hold one pixel"
            found |= part
        np.testing.assert_array_equal(found, mask)


# ---- refused


def test_what_is_no_dicom_is_refused_by_name(tmp_path):
    file = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3)), np.eye(4)), file)
    with pytest.raises(ValueError, match=r"scan.nii.gz: is no DICOM image.*leave --dicom out"):
        series_source(file, Reading())


def test_interpolated_slices_are_refused(tmp_path):
    keep = [k for k in range(9) if k != 4]
    folder = write_series(tmp_path / "s", VALUES, grid_around(GRIDS["axial"], SHAPE), keep=keep, edit=patient)
    with pytest.raises(ValueError, match="1 of 9 slices.*on none of the images"):
        series_source(folder, Reading(irregular="resample"))


@pytest.mark.parametrize("lacking", ["FrameOfReferenceUID", "StudyInstanceUID"])
def test_images_that_do_not_say_where_they_belong_are_refused(tmp_path, lacking):
    def edit(made, k):
        patient(made, k)
        delattr(made, lacking)

    folder = write_series(tmp_path / "s", VALUES, grid_around(GRIDS["axial"], SHAPE), edit=edit)
    with pytest.raises(ValueError, match=f"has no {lacking}: expected it"):
        series_source(folder, Reading())


def test_a_tilted_gantry_is_explained(tmp_path):
    _, source = written(tmp_path, "tilted gantry")
    assert "the gantry was tilted" in source.notes[0]
    _, source = written(tmp_path / "straight", "oblique")
    assert source.notes == []


# ---- pictures


def picture(path, edit=None):
    """A radiograph that does not say where in the patient it lies."""
    made = dataset(f"{ROOT}.7", f"{ROOT}.8", "1.2.840.10008.5.1.4.1.1.1.1")
    patient(made, 0)
    made.Modality = "DX"
    del made.FrameOfReferenceUID
    made.Rows, made.Columns = 20, 24
    made.PixelData = np.arange(480, dtype="<u2").tobytes()
    if edit:
        edit(made)
    return save(made, path)


def test_a_picture_without_a_place_has_a_segmentation_and_no_contours(tmp_path):
    source = picture_source(picture(tmp_path / "x.dcm"))
    write_segmentation(tmp_path / "seg.dcm", LABELS[:, :, 4:5], SEGMENTS, source, MAKER)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(seg.pixel_array[1].T > 0, LABELS[:, :, 4] == 2)
    with pytest.raises(ValueError, match="does not say where it lies"):
        write_structures(tmp_path / "rt.dcm", LABELS[:, :, 4:5], SEGMENTS, source, MAKER)


def test_a_slice_as_a_picture_has_both(tmp_path):
    grid = grid_around(GRIDS["oblique"], SHAPE)

    def edit(made):
        patient(made, 0)
        made.Modality, made.SOPClassUID = "CT", "1.2.840.10008.5.1.4.1.1.2"
        place(made, grid, 4)

    source = picture_source(picture(tmp_path / "x.dcm", edit))
    write_segmentation(tmp_path / "seg.dcm", LABELS[:, :, 4:5], SEGMENTS, source, MAKER)
    write_structures(tmp_path / "rt.dcm", LABELS[:, :, 4:5], SEGMENTS, source, MAKER)
    for number in (1, 2):
        found = rasterised(tmp_path / "rt.dcm", number, grid, by_skimage)
        np.testing.assert_array_equal(found[:, :, 4], LABELS[:, :, 4] == number)
        assert not found[:, :, :4].any()
    assert_sound(tmp_path / "seg.dcm", tmp_path / "rt.dcm")
