# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Masks as a DICOM segmentation, for the series that they were drawn in, by highdicom."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
from sam_bundles.common.reading.dicom_stacks import choose, stacks_of
from sam_bundles.common.reading.dicom_tags import Slice, find_slices

from sam_bundles import Session

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
MAKER = "SAM bundles for MONAI"
# What every image has to say, be it nothing, and what those without a name often leave out.
SAID = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
# What tells where and of what study an image is: nothing can be made up for it.
NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID")
# A slice of the file may lie so far, in voxels, from the one of the volume.
NEAR = 0.1


def missing(path: Path) -> str | None:
    """Why no segmentation can be written for a scan, as people read it; None where it can."""
    if not path.is_dir():
        return "only for scans that are a folder or a zip of DICOM files"
    if any(s.frame for s in _slices(path)):
        return "only for DICOM series with a file for each slice"
    if find_spec("highdicom") is None:
        return "needs the package highdicom: pip install highdicom"
    return None


def save(file: Path, session: Session, path: Path) -> None:
    """Write the masks of all objects as one binary DICOM segmentation with a segment for each.

    Args:
        file: to write.
        session: the masks, with their names.
        path: the DICOM file or folder that the session's image was read from.

    Raises:
        ValueError: no DICOM, nothing marked, or slices that were interpolated, so that no mask lies on them.
    """
    if (why := missing(path)) is not None:
        raise ValueError(f"no DICOM segmentation is written: {why}")
    import highdicom as hd
    from highdicom.sr.coding import CodedConcept

    labels = session.labels()
    named = [(name, number) for name, number in session.numbers.items() if (labels == number).any()]
    if not named:
        raise ValueError("no object has a voxel: expected a click on one before a segmentation is saved")
    sources = [_whole(pydicom.dcmread(s.file)) for s in _slices(path)]
    frames = np.stack([_on_slice(labels, session.affine, source) for source in sources])
    masks = np.stack([frames == number for _, number in named], axis=-1).astype(np.uint8)
    segments = [
        hd.seg.SegmentDescription(
            segment_number=i,
            segment_label=name[:64],
            # SNOMED CT's most general words: the page knows names, not what they mean.
            segmented_property_category=CodedConcept("123037004", "SCT", "Anatomical Structure"),
            segmented_property_type=CodedConcept("123037004", "SCT", "Anatomical Structure"),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
            algorithm_identification=hd.AlgorithmIdentificationSequence(
                name="fastsam3d", version="1", family=CodedConcept("123109", "DCM", "Manual Processing")
            ),
        )
        for i, (name, _) in enumerate(named, 1)
    ]
    written = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=masks,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=hd.UID(),
        series_number=100,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name="fastsam3d",
        software_versions="1",
        device_serial_number="0",
        series_description="Masks by clicks",
        omit_empty_frames=True,
    )
    written.save_as(file)


def _slices(path: Path) -> list[Slice]:
    """Of the one series that was read."""
    return choose(stacks_of(find_slices(path).slices), None, path).slices


def _whole(source: pydicom.Dataset) -> pydicom.Dataset:
    if lacking := [name for name in NEEDED if not source.get(name)]:
        raise ValueError(f"the DICOM files have no {', '.join(lacking)}: expected it, for masks that belong to them")
    for name in SAID:
        if name not in source:
            setattr(source, name, "")
    return source


def _on_slice(labels: np.ndarray, affine: np.ndarray, source: pydicom.Dataset) -> np.ndarray:
    """(rows, columns) of a slice: the label of the voxel that each of its pixels is."""
    along, down = np.array(source.ImageOrientationPatient, float).reshape(2, 3)
    row_step, column_step = (float(s) for s in source.PixelSpacing)
    pixel = np.eye(4)
    pixel[:3, 0], pixel[:3, 1], pixel[:3, 3] = along * column_step, down * row_step, source.ImagePositionPatient
    to_voxel = np.linalg.inv(affine) @ LPS_TO_RAS @ pixel
    rows, columns = np.mgrid[: source.Rows, : source.Columns]
    at = np.stack([columns, rows, np.zeros_like(rows), np.ones_like(rows)], axis=-1) @ to_voxel.T
    voxels = np.rint(at[..., :3])
    inside = ((voxels >= 0) & (voxels < labels.shape)).all()
    if not inside or np.abs(at[..., :3] - voxels).max() > NEAR:
        raise ValueError("the slices were interpolated to be read: expected a regular series, whose voxels are pixels")
    return labels[tuple(voxels.astype(int).transpose(2, 0, 1))]
