# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The pixels of DICOM files, in the units that their tags give them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
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

from .dicom_tags import is_compressed, transfer_syntax

# ITU-R BT.601: how bright a colour looks.
LUMINANCE = np.array([0.299, 0.587, 0.114])
# Transfer syntaxes that ITK reads, and which packages pydicom needs for them.
OPENJPEG, LIBJPEG = "pylibjpeg pylibjpeg-openjpeg", "pylibjpeg pylibjpeg-libjpeg"
JPEG = "1.2.840.10008.1.2.4."
KNOWN = {
    "1.2.840.10008.1.2.5": "pydicom",
    **dict.fromkeys((f"{JPEG}50", f"{JPEG}51", f"{JPEG}57", f"{JPEG}70"), LIBJPEG),
    **dict.fromkeys((f"{JPEG}80", f"{JPEG}81"), "pyjpegls"),
    **dict.fromkeys((f"{JPEG}90", f"{JPEG}91"), OPENJPEG),
}
# High-throughput JPEG 2000, which not every ITK knows.
READERS = {**KNOWN, **dict.fromkeys((f"{JPEG}201", f"{JPEG}202", f"{JPEG}203"), OPENJPEG)}
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


class NoDecoderError(ValueError):
    """Pixels in a transfer syntax that nothing installed reads."""


def decode(file: Path) -> np.ndarray:
    """(frames, rows, columns), or (frames, rows, columns, 3) of a colour picture.

    ITK reads them, which knows most compressions, but for what it refuses or gets wrong: big-endian files, palettes,
    floating point, and frames that each have a scale of their own. What it does not know is left to pydicom and the
    decoders that are installed for it.

    Raises:
        NoDecoderError: compressed in a way that nothing installed reads; the message says what does.
        Exception: of many kinds, where the pixels cannot be read.
    """
    tags = pydicom.dcmread(file, stop_before_pixels=True, force=True)
    syntax = transfer_syntax(tags)
    palette = tags.get("PhotometricInterpretation") == "PALETTE COLOR"
    scales = _scales(tags)
    ways: list[Callable[[], np.ndarray]] = [lambda: _by_itk(file)[0], lambda: _by_pydicom(file, palette)]
    if palette or syntax == ExplicitVRBigEndian or "PixelRepresentation" not in tags or scales:
        del ways[0]
    if not is_compressed(syntax):
        return ways[0]()
    if scales:
        ways.append(lambda: _scaled(_stored_by_itk(file), scales))
    problems = []
    for way in ways:
        try:
            return way()
        except Exception as problem:  # noqa: BLE001 - the decoders raise of every kind
            problems.append(problem)
    if syntax in KNOWN and not palette:
        # ITK knows it: it is the file that is broken.
        raise problems[0]
    package = READERS.get(syntax)
    remedy = f"pip install {package}" if package else "decompress it with the program that wrote it"
    raise NoDecoderError(
        f"its pixels are compressed as {syntax.name} ({syntax}), which nothing installed reads; expected another "
        f"transfer syntax, or a package for this one: {remedy}"
    ) from problems[-1]


def _by_itk(file: Path) -> tuple[np.ndarray, itk.GDCMImageIO]:
    reader = itk.GDCMImageIO.New()
    image = itk.imread(str(file), imageio=reader)
    values = itk.array_from_image(image)
    return (values[None] if image.GetImageDimension() == 2 else values), reader


def _stored_by_itk(file: Path) -> np.ndarray:
    """Before the one scale that ITK takes for all frames."""
    values, reader = _by_itk(file)
    return np.rint((values.astype(np.float64) - reader.GetRescaleIntercept()) / (reader.GetRescaleSlope() or 1))


def _scaled(stored: np.ndarray, scales: list[tuple[float, float]]) -> np.ndarray:
    """(frames, rows, columns), each frame with its own slope and intercept."""
    slopes, intercepts = np.array(scales).T[..., None, None]
    return stored * slopes + intercepts


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
    return _scaled(values, scales)


def _scales(tags: Dataset) -> list[tuple[float, float]]:
    """Slope and intercept of every frame, where the frames of a file have scales of their own."""
    shared, frames = (list(tags.get(name) or []) for name in GROUPS)
    of_frames = [f.get("PixelValueTransformationSequence") for f in frames]
    if not any(of_frames):
        return []
    fallback = shared[0].get("PixelValueTransformationSequence") if shared else None
    items = [(own or fallback or [Dataset()])[0] for own in of_frames]
    return [(float(i.get("RescaleSlope", 1)), float(i.get("RescaleIntercept", 0))) for i in items]
