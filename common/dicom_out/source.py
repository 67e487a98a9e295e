# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The DICOM images that a mask belongs to: which frame is which slice of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from ..reading.dicom_series import arrange
from ..reading.dicom_tags import Slice, find_slices, is_dicom
from ..reading.options import Reading
from .segments import Segment

# What tells where and of what study an image is: nothing can be made up for it.
NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
# What every image has to say, be it nothing, and what those without a name often leave out.
SAID = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
EXPECTED = "expected a DICOM file or the folder of one DICOM series: leave --dicom out for other images"


@dataclass
class Source:
    """Images, in the order in which reading made a volume of them.

    Attributes:
        files: their tags, without pixels; one for each file.
        frames: for each slice of the mask, the place of its file in ``files`` and of its frame in the file.
        shape: columns, rows and slices.
        affine: (4, 4) float64, (column, row, slice) -> mm in LPS; None of a picture that does not say where it lies.
        notes: remarks for the user.
    """

    files: list[Dataset]
    frames: list[tuple[int, int]]
    shape: tuple[int, int, int]
    affine: np.ndarray | None
    notes: list[str]

    def check(self, labels: np.ndarray, segments: Sequence[Segment]) -> None:
        """Raises ValueError where a mask (columns, rows, slices) has another shape or no label with a pixel."""
        if labels.shape != self.shape:
            raise ValueError(f"a mask of shape {labels.shape}: expected that of its images, {self.shape}")
        if not segments:
            raise ValueError("no label has a voxel: expected one for a DICOM result")

    @property
    def is_tilted(self) -> bool:
        """Whether the slices are shifted against each other, as under a tilted gantry."""
        if self.affine is None:
            return False
        rows, columns, step = (self.affine[:3, i] / np.linalg.norm(self.affine[:3, i]) for i in range(3))
        return bool(max(abs(rows @ step), abs(columns @ step)) > 1e-3)


def check_dicom(path: str | Path) -> None:
    """Raises ValueError where an image is no DICOM, so that nothing of DICOM can refer to it; a quick look."""
    place = Path(path).expanduser()
    if not place.is_dir() and not (place.is_file() and is_dicom(place)):
        raise ValueError(f"{path}: is no DICOM image, which DICOM results refer to; {EXPECTED}")


def series_source(path: str | Path, reading: Reading) -> Source:
    """Of a volume: the slices that :func:`..reading.volume.read_volume` made it of.

    Raises:
        ValueError: no DICOM, slices that had to be interpolated, or that do not say of what study and place they are.
    """
    check_dicom(path)
    found = arrange(Path(path).expanduser(), reading)
    if found.problems:
        raise ValueError(
            f"{path}: {'; '.join(found.problems)}; a mask on interpolated slices is on none of the images: expected "
            f"a regular series: leave --dicom out"
        )
    return _source(path, found.slices, found.affine)


def picture_source(path: str | Path) -> Source:
    """Of a 2D image, a file with one frame; it need not say where it lies.

    Raises:
        ValueError: no DICOM, several frames, or not of what study it is.
    """
    check_dicom(path)
    slices = find_slices(Path(path).expanduser()).slices
    if len(slices) != 1:
        raise ValueError(f"{path}: {len(slices)} frames; expected one slice a file")
    only, affine = slices[0], None
    if not any(v is None for v in (only.position, only.orientation, only.spacing)):
        affine = np.eye(4)
        affine[:3, 0] = only.orientation[0] * only.spacing[1]
        affine[:3, 1] = only.orientation[1] * only.spacing[0]
        affine[:3, 2] = np.cross(*only.orientation) * (only.thickness or 1)
        affine[:3, 3] = only.position
    return _source(path, slices, affine)


def _source(path: str | Path, slices: list[Slice], affine: np.ndarray | None) -> Source:
    names = list(dict.fromkeys(s.file for s in slices))
    files = [pydicom.dcmread(name, stop_before_pixels=True, force=True) for name in names]
    needed = NEEDED if affine is None else (*NEEDED, "FrameOfReferenceUID")
    for file in files:
        if lacking := [name for name in needed if not file.get(name)]:
            raise ValueError(f"{path}: has no {', '.join(lacking)}: expected it, for DICOM results that belong to it")
        for name in SAID:
            if name not in file:
                setattr(file, name, "")
    rows, columns = slices[0].size
    places = {name: i for i, name in enumerate(names)}
    source = Source(files, [(places[s.file], s.frame) for s in slices], (columns, rows, len(slices)), affine, [])
    if source.is_tilted:
        source.notes.append(
            "the gantry was tilted: the DICOM results lie on the images as they are; programs that make an upright "
            "volume of such a series have to shear them as they shear the images"
        )
    return source
