# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""DICOM files of a volume whose voxels and affine are known, and what can be wrong with them."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian

from common.geometry import Grid

ROOT = "1.2.826.0.1.3680043.9.7"
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# What is stored is larger by this: the tags say so.
OFFSET = 1024


def dataset(uid: str, series: str, storage: str = CTImageStorage) -> Dataset:
    """What every image says."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = storage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = uid
    made.StudyInstanceUID, made.SeriesInstanceUID, made.Modality, made.SeriesNumber = ROOT, series, "CT", 3
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 0
    return made


def place(made: Dataset, grid: Grid, k: int, digits: int = 6) -> None:
    """Where slice ``k`` lies."""
    lps = RAS_TO_LPS @ grid.affine
    made.ImagePositionPatient = [round(float(v), digits) for v in lps[:3] @ [0, 0, k, 1]]
    made.ImageOrientationPatient = [float(f"{v:.10g}") for a in (0, 1) for v in lps[:3, a] / grid.spacing[a]]
    made.PixelSpacing = [float(f"{grid.spacing[1]:.8g}"), float(f"{grid.spacing[0]:.8g}")]
    made.SliceThickness = float(f"{grid.spacing[2]:.8g}")


def write_series(
    folder: Path,
    values: np.ndarray,
    grid: Grid,
    keep: Iterable[int] | None = None,
    edit: Callable[[Dataset, int], None] | None = None,
    series: str = f"{ROOT}.1",
    first: int = 1,
    name: str = "IM{:04d}.dcm",
    digits: int = 6,
) -> Path:
    """A file for each slice along the third axis, of whole numbers from -1024 on; names run against the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(grid.shape[2]) if keep is None else keep:
        made = dataset(f"{series}.{first + k}", series)
        made.InstanceNumber = first + k
        made.Rows, made.Columns = grid.shape[1], grid.shape[0]
        made.RescaleSlope, made.RescaleIntercept = 1, -OFFSET
        place(made, grid, k, digits)
        made.PixelData = (values[:, :, k].T + OFFSET).astype("<u2").tobytes()
        if edit:
            edit(made, k)
        save(made, folder / name.format(500 - k))
    return folder


def write_frames(path: Path, values: np.ndarray, grid: Grid, order: Sequence[int], slopes: bool = False) -> Path:
    """One file, a frame for each slice in ``order``; with ``slopes`` each of them has a scale of its own."""
    made = dataset(f"{ROOT}.5", f"{ROOT}.6", EnhancedCTImageStorage)
    made.Rows, made.Columns, made.NumberOfFrames = grid.shape[1], grid.shape[0], len(order)
    shared, where = Dataset(), Dataset()
    place(where, grid, 0)
    shared.PixelMeasuresSequence = [part(where, "PixelSpacing", "SliceThickness")]
    shared.PlaneOrientationSequence = [part(where, "ImageOrientationPatient")]
    if not slopes:
        shared.PixelValueTransformationSequence = [scale(1)]
    made.SharedFunctionalGroupsSequence = [shared]
    frames, pixels = [], []
    for index, k in enumerate(order):
        frame, slope = Dataset(), 1 + index % 3 if slopes else 1
        place(where, grid, k)
        frame.PlanePositionSequence = [part(where, "ImagePositionPatient")]
        content = Dataset()
        content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = "1", k + 1, [1, k + 1]
        frame.FrameContentSequence = [content]
        if slopes:
            frame.PixelValueTransformationSequence = [scale(slope)]
        frames.append(frame)
        pixels.append(((values[:, :, k].T + OFFSET) / slope).astype("<u2"))
    made.PerFrameFunctionalGroupsSequence = frames
    made.PixelData = np.stack(pixels).tobytes()
    return save(made, path)


def part(made: Dataset, *names: str) -> Dataset:
    """Some elements of a data set."""
    taken = Dataset()
    for name in names:
        setattr(taken, name, getattr(made, name))
    return taken


def scale(slope: float) -> Dataset:
    """How stored numbers become Hounsfield units."""
    made = Dataset()
    made.RescaleIntercept, made.RescaleSlope, made.RescaleType = -OFFSET, slope, "HU"
    return made


def big_endian(made: Dataset, k: int) -> None:
    """An ``edit``: the most significant byte first."""
    made.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    made.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()
    made["PixelData"].VR = "OW"


def save(made: Dataset, path: Path) -> Path:
    """With either version of pydicom."""
    path.parent.mkdir(parents=True, exist_ok=True)
    big = made.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
    if int(pydicom.__version__.split(".")[0]) > 2:
        pydicom.dcmwrite(path, made, enforce_file_format=True)
    else:
        made.is_little_endian, made.is_implicit_VR = not big, False
        pydicom.dcmwrite(path, made, write_like_original=False)
    return path
