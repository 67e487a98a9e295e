# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Pixels of image files as they are stored: rows first, never turned, in their own bit depth."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import itk
import numpy as np
from monai.data import MetaTensor

from .common.files import existing
from .common.planes import Plane
from .common.reading import dicom_tags, nifti, picture
from .common.reading import volume as volumes
from .common.reading.dicom_picture import read_dicom_picture
from .common.reading.dicom_tags import is_dicom
from .common.reading.files import readable
from .common.reading.options import MAX_PIXELS, Reading
from .common.reading.volume import DEFAULT, is_volume, read_volume

PICTURES = picture.SUFFIXES
DICOM = dicom_tags.SUFFIXES
VOLUMES = volumes.SUFFIXES
FORMATS = "PNG, JPEG, TIFF, BMP, GIF, a DICOM slice, or NIfTI, NRRD or MetaImage"
EXIF_ORIENTATION = 274
# ITK's Python wrapping has no 16-bit colour type, but one of any number of channels.
COLOUR16 = itk.ImageFileReader[itk.VectorImage[itk.US, 2]]


@dataclass
class Pixels:
    """What a file holds.

    Attributes:
        values: (H, W, C), one or three channels, in the file's own type.
        spacing: mm between rows and between columns, None where the file does not say.
        notes: what was done to them.
        unit: of the values; empty where the file does not say.
    """

    values: np.ndarray
    spacing: tuple[float, float] | None = None
    notes: list[str] = field(default_factory=list)
    unit: str = ""


def check_file(path: str | Path) -> None:
    """Looks at the head of a file alone, so that a folder is checked before any of it is computed.

    Raises:
        ValueError: missing, or no image.
    """
    path = existing(path, FORMATS)
    with readable(path, FORMATS):
        if is_volume(path):
            if str(path).lower().endswith(nifti.SUFFIXES):
                nifti.open_nifti(path)
        elif not is_dicom(path):
            # Of any size: whether it is too large is said with the option that raises the limit.
            with picture.open_picture(path, sys.maxsize):
                pass


def read_pixels(path: str | Path, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The pixels of one 2D image, or of a volume of one slice as :class:`.common.planes.Plane` shows it.

    Args:
        path: of the file.
        max_pixels: more are refused before any memory is taken for them.

    Raises:
        ValueError: missing, unreadable, too large, several pages or slices, or neither one nor three channels (and
            alpha).
    """
    path = existing(path, FORMATS)
    if is_volume(path):
        return _checked(_single_slice(read_slices(path, Reading(max_voxels=max_pixels)), path), path)
    with readable(path, FORMATS):
        pixels = Pixels(*read_dicom_picture(path, max_pixels)) if is_dicom(path) else _read_picture(path, max_pixels)
    return _checked(pixels, path)


def read_slices(path: str | Path, reading: Reading = DEFAULT) -> MetaTensor:
    """(1, X, Y, Z) with its affine, as stored; a file with two axes is a volume of one slice.

    Raises:
        ValueError: missing, unreadable, or several channels.
    """
    volume = read_volume(path, reading)
    if volume.ndim == 3:
        volume = MetaTensor(volume.as_tensor()[..., None], affine=volume.affine, meta=volume.meta)
    if volume.ndim != 4 or len(volume) != 1:
        raise ValueError(f"{path}: values of shape {tuple(volume.shape)}; expected a volume of one channel")
    return volume


def _checked(pixels: Pixels, path: Path) -> Pixels:
    """Grey or colour, without alpha."""
    if pixels.values.ndim == 2:
        pixels.values = pixels.values[..., None]
    channels = pixels.values.shape[-1]
    if channels in (2, 4):
        pixels.values = pixels.values[..., :-1]
        pixels.notes.append("the alpha channel was left out")
    elif channels not in (1, 3):
        raise ValueError(f"{path}: {channels} channels; expected grey or RGB, with or without alpha")
    if pixels.values.dtype == bool:
        pixels.values = pixels.values.astype(np.uint8) * 255
    return pixels


def _read_picture(path: Path, max_pixels: int) -> Pixels:
    with picture.open_picture(path, max_pixels) as image:
        # First of all, because reading EXIF may load the image, and then its depth is forgotten.
        deep = picture.is_deep(image)
        notes = []
        if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
            notes.append("the file asks viewers to turn it (EXIF); the result is on its pixels as they are stored")
        if deep:
            # Pillow would keep 8 of the 16 bits: nothing of a 12-bit image but its brightest parts.
            return Pixels(_read_colour16(path), notes=notes)
        if image.mode in ("P", "PA"):
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX", "La", "RGBa"):
            image = image.convert("RGB")
        return Pixels(np.array(image), notes=notes)


def _read_colour16(path: Path) -> np.ndarray:
    reader = COLOUR16.New(FileName=str(path))
    reader.Update()
    return itk.array_from_image(reader.GetOutput())


def _single_slice(volume: MetaTensor, path: Path) -> Pixels:
    affine = np.asarray(volume.affine, dtype=np.float64)
    plane = Plane.of(affine, volume.shape[1:])
    columns, rows, _ = plane.spacing(np.linalg.norm(affine[:3, :3], axis=0))
    slices = plane.slices(volume.as_tensor()[0])
    if len(slices) != 1:
        raise ValueError(f"{path}: {tuple(volume.shape[1:])} voxels; expected a volume of a single slice")
    return Pixels(slices[0].numpy(), (rows, columns), list(volume.meta["notes"]))
