# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Masks as a DICOM structure set (RTSTRUCT), by pydicom: contours as radiotherapy reads them.

The package rt-utils makes them too; its last version is of January 2023, and its contours run through the centres of
pixels, so that masks shrink by half a pixel on every side.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from .contours import outlines
from .segments import MANUFACTURER, Maker, Segment, code_item
from .source import SAID, Source

# Of the names of regions, in characters.
LONGEST = 64
# mm, in digits after the point.
DIGITS = 5


def write_structures(path: Path, labels: np.ndarray, segments: Sequence[Segment], source: Source, maker: Maker) -> None:
    """Write a region for each label: closed planar contours in patient coordinates, holes as keyholes.

    Args:
        path: of the file.
        labels: (columns, rows, slices), of whole numbers.
        segments: those that have a pixel.
        source: the images.
        maker: for the name and version of the software.

    Raises:
        ValueError: a mask of another shape, no segment, or images that do not say where they lie.
    """
    source.check(labels, segments)
    if source.affine is None:
        raise ValueError(
            "the image does not say where it lies (ImagePositionPatient, ImageOrientationPatient, PixelSpacing): "
            "expected a slice of a patient for contours in space: give --dicom seg"
        )
    made = _head(source, maker)
    made.StructureSetROISequence = [_region(number, s, source) for number, s in enumerate(segments, 1)]
    made.ROIContourSequence = [_contours(number, labels, s, source) for number, s in enumerate(segments, 1)]
    made.RTROIObservationsSequence = [_observation(number, s) for number, s in enumerate(segments, 1)]
    _save(made, path)


def _head(source: Source, maker: Maker) -> Dataset:
    first = source.files[0]
    now = datetime.datetime.now()
    made = Dataset()
    # Before all names: what they are written in.
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID, made.SOPInstanceUID = RTStructureSetStorage, generate_uid()
    made.Modality = "RTSTRUCT"
    for name in (*SAID, "StudyInstanceUID", "StudyDescription", "PatientAge", "PatientSize", "PatientWeight"):
        if name in first:
            setattr(made, name, first[name].value)
    made.SeriesInstanceUID, made.SeriesNumber, made.InstanceNumber = generate_uid(), 101, 1
    made.SeriesDescription = f"Contours by {maker.name}"
    made.Manufacturer, made.ManufacturerModelName = MANUFACTURER, maker.name
    made.SoftwareVersions, made.DeviceSerialNumber = maker.version, "0"
    made.OperatorsName = ""
    made.FrameOfReferenceUID = first.FrameOfReferenceUID
    made.PositionReferenceIndicator = first.get("PositionReferenceIndicator") or ""
    made.InstanceCreationDate = made.SeriesDate = made.StructureSetDate = now.strftime("%Y%m%d")
    made.InstanceCreationTime = made.SeriesTime = made.StructureSetTime = now.strftime("%H%M%S")
    made.StructureSetLabel = "MASKS"
    made.ApprovalStatus = "UNAPPROVED"
    series = Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.ContourImageSequence = [_image(file) for file in source.files]
    study = Dataset()
    # Detached Study Management, which is retired and what all readers know.
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    study.ReferencedSOPInstanceUID = first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    made.ReferencedFrameOfReferenceSequence = [frame]
    return made


def _image(file: Dataset, frame: int | None = None) -> Dataset:
    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = file.SOPClassUID, file.SOPInstanceUID
    if frame is not None and int(file.get("NumberOfFrames") or 1) > 1:
        image.ReferencedFrameNumber = frame + 1
    return image


def _region(number: int, segment: Segment, source: Source) -> Dataset:
    region = Dataset()
    region.ROINumber, region.ROIName = number, segment.name[:LONGEST]
    region.ReferencedFrameOfReferenceUID = source.files[0].FrameOfReferenceUID
    region.ROIGenerationAlgorithm = segment.algorithm_type
    return region


def _contours(number: int, labels: np.ndarray, segment: Segment, source: Source) -> Dataset:
    contours = []
    mask = labels == segment.value
    for k in np.flatnonzero(mask.any(axis=(0, 1))):
        file, frame = source.frames[k]
        for polygon in outlines(mask[:, :, k]):
            voxels = np.column_stack([polygon, np.full(len(polygon), k), np.ones(len(polygon))])
            mm = voxels @ source.affine[:3].T
            contour = Dataset()
            contour.ContourImageSequence = [_image(source.files[file], frame)]
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(polygon)
            contour.ContourNumber = len(contours) + 1
            contour.ContourData = [f"{v:.{DIGITS}f}" for v in mm.ravel()]
            contours.append(contour)
    found = Dataset()
    found.ROIDisplayColor = [round(255 * v) for v in segment.colour]
    found.ContourSequence = contours
    found.ReferencedROINumber = number
    return found


def _observation(number: int, segment: Segment) -> Dataset:
    observation = Dataset()
    observation.ObservationNumber, observation.ReferencedROINumber = number, number
    observation.RTROIIdentificationCodeSequence = [code_item(segment.coded.kind)]
    # What it means for a treatment is for people to say.
    observation.RTROIInterpretedType, observation.ROIInterpreter = "", ""
    return observation


def _save(made: Dataset, path: Path) -> None:
    meta = made.file_meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    # Explicit lengths of numbers as text end at 64 KiB, a contour of some 2,000 points.
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    if int(pydicom.__version__.split(".")[0]) > 2:
        pydicom.dcmwrite(path, made, enforce_file_format=True)
        return
    # MONAI Label's version.
    made.is_little_endian, made.is_implicit_VR = True, True
    pydicom.dcmwrite(path, made, write_like_original=False)
