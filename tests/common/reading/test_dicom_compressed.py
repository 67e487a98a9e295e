# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Compressed transfer syntaxes and enhanced multi-frame files: the same voxels as of plain slices."""

import itk
import numpy as np
import pydicom
import pytest
from dicom_files import ROOT, write_frames, write_series
from pydicom._uid_dict import UID_dictionary
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    MPEG2MPML,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)
from volumes import grid_around, rotation

from common.reading import dicom_pixels
from common.reading.dicom_picture import read_dicom_picture
from common.reading.volume import UNIT, read_volume

if int(pydicom.__version__.split(".")[0]) < 3:
    pytest.skip("pydicom 2 compresses nothing", allow_module_level=True)

SHAPE = (40, 36, 5)
GRID = grid_around(rotation(10, 20, 5) @ np.diag([-2.0, -2.0, 3.0]), SHAPE)
# Of whole numbers for every slope of a frame.
VALUES = np.random.default_rng(0).integers(-1000, 2000, SHAPE) // 6 * 6 + 2
SYNTAXES = [
    pytest.param(DeflatedExplicitVRLittleEndian, id="deflated"),
    pytest.param(RLELossless, id="RLE"),
    pytest.param(JPEGLosslessSV1, id="JPEG lossless"),
    pytest.param(JPEGLSLossless, id="JPEG-LS"),
    pytest.param(JPEG2000Lossless, id="JPEG 2000"),
]
WRITER = {JPEGLSLossless: "jpeg_ls", JPEG2000Lossless: "openjpeg"}


def compress(file, syntax):
    """The same file in another transfer syntax."""
    if syntax in WRITER:
        pytest.importorskip(WRITER[syntax])
    made = pydicom.dcmread(file)
    if syntax == DeflatedExplicitVRLittleEndian:
        made.file_meta.TransferSyntaxUID = syntax
    elif syntax == JPEGLosslessSV1:
        frames = made.pixel_array.reshape(-1, made.Rows, made.Columns)
        made.PixelData = encapsulate([lossless(frame, file.with_suffix(".jpeg")) for frame in frames])
        made["PixelData"].VR = "OB"
        made["PixelData"].is_undefined_length = True
        made.file_meta.TransferSyntaxUID = syntax
    else:
        made.compress(syntax, generate_instance_uid=False)
    made.save_as(file)


def lossless(pixels, scratch):
    """A JPEG of them, by ITK."""
    writer = itk.GDCMImageIO.New()
    writer.SetCompressor("JPEG")
    image = itk.image_from_array(pixels.astype(np.uint16)[None])
    itk.ImageFileWriter.New(Input=image, FileName=str(scratch), ImageIO=writer, UseCompression=True).Update()
    made = pydicom.dcmread(scratch, force=True)
    assert made.file_meta.TransferSyntaxUID == JPEGLosslessSV1
    scratch.unlink()
    return next(generate_frames(made.PixelData, number_of_frames=1))


def assert_is(path):
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.numpy()[0], VALUES)
    np.testing.assert_allclose(volume.affine.numpy(), GRID.affine, atol=1e-4)
    assert volume.meta["notes"] == [] and volume.meta[UNIT] == "HU"


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_slices(tmp_path, syntax):
    for file in sorted(write_series(tmp_path / "s", VALUES, GRID).iterdir()):
        compress(file, syntax)
    assert_is(tmp_path / "s")


@pytest.mark.parametrize("slopes", [False, True], ids=["one scale", "scales of their own"])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_frames_of_an_enhanced_file(tmp_path, syntax, slopes):
    file = write_frames(tmp_path / "f.dcm", VALUES, GRID, [3, 1, 0, 2, 4], slopes)
    compress(file, syntax)
    assert_is(file)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_frames_with_scales_of_their_own_without_decoders_for_pydicom(tmp_path, syntax, monkeypatch):
    file = write_frames(tmp_path / "f.dcm", VALUES, GRID, [3, 1, 0, 2, 4], True)
    compress(file, syntax)

    def none(*given):
        raise RuntimeError("no decoder")

    if syntax != DeflatedExplicitVRLittleEndian:
        monkeypatch.setattr(dicom_pixels, "_by_pydicom", none)
    assert_is(file)


@pytest.mark.parametrize("kind", ["CT", "MR"])
def test_enhanced_files_that_highdicom_made_of_slices(tmp_path, kind):
    hd = pytest.importorskip("highdicom")

    def edit(made, k):
        made.FrameOfReferenceUID, made.Modality = f"{ROOT}.99", kind
        made.PatientID = made.PatientName = made.PatientBirthDate = made.PatientSex = made.StudyID = ""
        made.StudyDate = made.StudyTime = made.AccessionNumber = made.ReferringPhysicianName = ""
        made.FrameOfReferenceUID, made.PositionReferenceIndicator, made.Manufacturer = f"{ROOT}.99", "", "x"
        made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = CTImageStorage if kind == "CT" else MRImageStorage
        made.AcquisitionNumber, made.LossyImageCompression = 1, "00"

    slices = write_series(tmp_path / "s", VALUES, GRID, edit=edit)
    makers = {"CT": hd.legacy.LegacyConvertedEnhancedCTImage, "MR": hd.legacy.LegacyConvertedEnhancedMRImage}
    made = makers[kind](
        legacy_datasets=[pydicom.dcmread(f) for f in sorted(slices.iterdir())],
        series_instance_uid=f"{ROOT}.50",
        series_number=9,
        sop_instance_uid=f"{ROOT}.51",
        instance_number=1,
    )
    made.save_as(tmp_path / "enhanced.dcm")
    volume = read_volume(tmp_path / "enhanced.dcm")
    np.testing.assert_array_equal(volume.numpy()[0], VALUES)
    np.testing.assert_allclose(volume.affine.numpy(), GRID.affine, atol=1e-4)
    assert volume.meta.get(UNIT) == ("HU" if kind == "CT" else None)


def unreadable(file, syntax):
    """A file of a transfer syntax, which pydicom may not know, without anything in it."""
    made = pydicom.dcmread(file)
    made.PixelData = encapsulate([b"\0\1" * 200])
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = known = syntax if syntax in UID_dictionary else MPEG2MPML
    made.save_as(file)
    file.write_bytes(file.read_bytes().replace(known.encode(), syntax.encode()))


def test_a_transfer_syntax_that_nothing_reads_is_named_with_what_reads_it(tmp_path):
    known = ("201", "pip install pylibjpeg pylibjpeg-openjpeg"), ("100", "decompress it"), ("110", "decompress it")
    for syntax, said in known:
        folder = write_series(tmp_path / syntax, VALUES, GRID)
        for file in folder.iterdir():
            unreadable(file, f"1.2.840.10008.1.2.4.{syntax}")
        with pytest.raises(ValueError, match=f"compressed as .*1.2.840.10008.1.2.4.{syntax}.*expected .*{said}"):
            read_volume(folder)


def test_a_picture_says_so_too(tmp_path):
    file = next(write_series(tmp_path / "s", VALUES, GRID, keep=[0]).iterdir())
    unreadable(file, "1.2.840.10008.1.2.4.110")
    with pytest.raises(ValueError, match="its pixels are compressed as 1.2.840.10008.1.2.4.110 "):
        read_dicom_picture(file)


def test_a_broken_file_of_a_known_syntax_is_named_as_broken(tmp_path):
    folder = write_series(tmp_path / "s", VALUES, GRID)
    unreadable(sorted(folder.iterdir())[1], JPEG2000Lossless)
    with pytest.raises(ValueError, match="the pixels of 1 files cannot be read: IM0497.dcm .*copy them again"):
        read_volume(folder)


@pytest.mark.parametrize(
    ("modality", "tags", "unit"),
    [
        ("CT", {}, "HU"),
        ("CT", {"RescaleType": "HU"}, "HU"),
        ("CT", {"RescaleType": "US"}, None),
        ("MR", {}, None),
        ("PT", {"Units": "BQML"}, "BQML"),
    ],
)
def test_the_unit_is_what_the_files_say(tmp_path, modality, tags, unit):
    def edit(made, k):
        made.Modality = modality
        for name, value in tags.items():
            setattr(made, name, value)

    assert read_volume(write_series(tmp_path / "s", VALUES, GRID, edit=edit)).meta.get(UNIT) == unit
