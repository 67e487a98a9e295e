# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The pixels of DICOM files, in the units that their tags give them."""

from __future__ import annotations

import warnings
from pathlib import Path

import itk
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

try:
    from pydicom.pixels import apply_color_lut, apply_modality_lut
except ImportError:  # pydicom 2, which MONAI Label asks for
    from pydicom.pixel_data_handlers.util import apply_color_lut, apply_modality_lut

from .dicom_tags import transfer_syntax

# ITU-R BT.601: how bright a colour looks.
LUMINANCE = np.array([0.299, 0.587, 0.114])
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


def decode(file: Path) -> np.ndarray:
    """(frames, rows, columns), or (frames, rows, columns, 3) of a colour picture.

    ITK reads them, which knows every compression, but for what it refuses or gets wrong: big-endian files, palettes,
    floating point, and frames that each have a scale of their own.

    Raises:
        Exception: of many kinds, where the pixels cannot be read.
    """
    tags = pydicom.dcmread(file, stop_before_pixels=True, force=True)
    palette = tags.get("PhotometricInterpretation") == "PALETTE COLOR"
    if palette or transfer_syntax(tags) == ExplicitVRBigEndian or "PixelRepresentation" not in tags or _scales(tags):
        return _by_pydicom(file, palette)
    image = itk.imread(str(file), imageio=itk.GDCMImageIO.New())
    values = itk.array_from_image(image)
    if image.GetImageDimension() == 2:
        values = values[None]
    return values


def grey(values: np.ndarray) -> tuple[np.ndarray, str]:
    """(frames, rows, columns) of pictures with a palette, and what was done to them."""
    if values.ndim == 3:
        return values, ""
    if (values == values[..., :1]).all():
        return values[..., 0], ""
    return values @ LUMINANCE, "its palette has colours, of which the brightness was taken"


def _by_pydicom(file: Path, palette: bool) -> np.ndarray:
    dataset = pydicom.dcmread(file, force=True)
    if transfer_syntax(dataset) is None:
        dataset.ensure_file_meta()
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = dataset.pixel_array
    if palette:
        values = apply_color_lut(values, dataset)
        return values if values.ndim == 4 else values[None]
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        # White is its lowest value, as ITK turns it.
        values = (-1 if dataset.PixelRepresentation else (1 << int(dataset.BitsStored)) - 1) - values.astype(np.int64)
    frames = int(dataset.get("NumberOfFrames") or 1)
    values = values if frames > 1 else values[None]
    scales = _scales(dataset)
    if not scales:
        return apply_modality_lut(values, dataset)
    slopes, intercepts = np.array(scales).T[..., None, None]
    return values * slopes + intercepts


def _scales(tags: Dataset) -> list[tuple[float, float]]:
    """Slope and intercept of every frame, where the frames of a file have scales of their own."""
    shared, frames = (list(tags.get(name) or []) for name in GROUPS)
    of_frames = [f.get("PixelValueTransformationSequence") for f in frames]
    if not any(of_frames):
        return []
    fallback = shared[0].get("PixelValueTransformationSequence") if shared else None
    items = [(own or fallback or [Dataset()])[0] for own in of_frames]
    return [(float(i.get("RescaleSlope", 1)), float(i.get("RescaleIntercept", 0))) for i in items]
