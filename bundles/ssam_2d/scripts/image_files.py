# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Pixels of image files of every kind, as they are stored: rows first, never turned, in their own depth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import LoadImage
from PIL import Image

from .common.files import existing
from .common.planes import Plane

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
DICOM = (".dcm", ".dicom")
VOLUMES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
FORMATS = "PNG, JPEG, TIFF, BMP, a DICOM slice, or NIfTI, NRRD or MetaImage"
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
    """

    values: np.ndarray
    spacing: tuple[float, float] | None = None
    notes: list[str] = field(default_factory=list)


def is_volume(path: str | Path) -> bool:
    """Whether a file is of a kind that holds volumes, going by its name."""
    return str(path).lower().endswith(VOLUMES)


def is_dicom(path: str | Path) -> bool:
    """Whether a file is DICOM, going by its content, whatever its name."""
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def check_file(path: str | Path) -> None:
    """Looks at the head of a file alone, so that a folder is checked before any of it is computed.

    Raises:
        ValueError: missing, or no image.
    """
    path = existing(path, FORMATS)
    with readable(path):
        if is_volume(path):
            if str(path).lower().endswith((".nii", ".nii.gz")):
                nib.load(path)
        elif not is_dicom(path):
            Image.open(path).close()


def read_pixels(path: str | Path) -> Pixels:
    """The pixels of one 2D image, or of a volume of one slice as :class:`.common.planes.Plane` shows it.

    Raises:
        ValueError: missing, unreadable, several pages or slices, or neither one nor three channels (and alpha).
    """
    path = existing(path, FORMATS)
    if is_volume(path):
        return _checked(_single_slice(read_volume(path), path), path)
    with readable(path):
        pixels = _read_dicom(path) if is_dicom(path) else _read_picture(path)
    return _checked(pixels, path)


def read_volume(path: str | Path) -> MetaTensor:
    """(1, X, Y, Z) with its affine, as stored; a file with two axes is a volume of one slice.

    Raises:
        ValueError: missing, unreadable, or several channels.
    """
    path = existing(path, FORMATS)
    with readable(path):
        volume = LoadImage(image_only=True, ensure_channel_first=True)(path)
    if volume.ndim == 3:
        volume = MetaTensor(volume.as_tensor()[..., None], affine=to_affine_nd(3, volume.affine), meta=volume.meta)
    if volume.ndim != 4 or len(volume) != 1:
        raise ValueError(f"{path}: values of shape {tuple(volume.shape)}; expected a volume of one channel")
    return volume


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Any error of a reading library as a ValueError that names the file; ours as they are."""
    try:
        yield
    except ValueError as error:
        if str(error).startswith(str(path)):
            raise
        raise unreadable(path, error) from error
    except Exception as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> ValueError:
    """The error to raise for a file that a library could not read."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return ValueError(f"{path}: cannot be read ({lines[-1][:200]}); expected {FORMATS}")


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


def _read_picture(path: Path) -> Pixels:
    with Image.open(path) as image:
        frames = getattr(image, "n_frames", 1)
        if frames != 1:
            raise ValueError(f"{path}: {frames} pages; expected one: save the one to segment as its own file")
        # First of all, because reading EXIF may load the image, and then its depth is forgotten.
        deep = image.mode in ("RGB", "RGBA") and _deep(image)
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


def _deep(image: Image.Image) -> bool:
    """Whether the file has 16 bits a channel, which Pillow does not say of colour images."""
    modes = (tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in image.tile)
    return any("16" in mode for mode in modes) or 16 in (getattr(image, "tag_v2", None) or {}).get(258, ())


def _read_colour16(path: Path) -> np.ndarray:
    reader = COLOUR16.New(FileName=str(path))
    reader.Update()
    return itk.array_from_image(reader.GetOutput())


def _read_dicom(path: Path) -> Pixels:
    image = itk.imread(str(path))
    values = itk.array_from_image(image)
    if image.GetImageDimension() == 3:
        if len(values) != 1:
            raise ValueError(f"{path}: {len(values)} frames; expected one slice a file")
        values = values[0]
    columns, rows = list(itk.spacing(image))[:2]
    notes = []
    metadata = dict(image)
    if str(metadata.get("0028|0004", "")).strip() == "MONOCHROME1":
        # ITK turns them within the range of their type, where signed values would look like Hounsfield units.
        values = values.astype(np.int64) - int(values.min())
        notes.append("stored with white as its lowest value (MONOCHROME1); turned, and counted from black")
    return Pixels(values, (rows, columns), notes)


def _single_slice(volume: MetaTensor, path: Path) -> Pixels:
    affine = np.asarray(volume.affine, dtype=np.float64)
    plane = Plane.of(affine, volume.shape[1:])
    columns, rows, _ = plane.spacing(np.linalg.norm(affine[:3, :3], axis=0))
    slices = plane.slices(volume.as_tensor()[0])
    if len(slices) != 1:
        raise ValueError(f"{path}: {tuple(volume.shape[1:])} voxels; expected a volume of a single slice")
    return Pixels(slices[0].numpy(), (rows, columns))
