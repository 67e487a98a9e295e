# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Pictures and volumes: read whole, compared, resampled, written."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.label_pictures import (
    LabelPicture,
    binary_map,
    check_binary,
    colour_map,
    inside_as,
    read_label_picture,
    value_map,
    whole_numbers,
)
from common.reading.picture import SUFFIXES as PICTURES
from common.reading.picture import open_picture
from tools.prepare_data.case import is_volume

# Pictures that hold one number for each pixel.
ONE_CHANNEL = ("L", "I;16", "I", "F")
# Voxels of two files are the same where their centres lie this close, in voxels.
SAME_PLACE = 0.01


class Raster(NamedTuple):
    """Values on a grid.

    Attributes:
        values: (H, W) or (H, W, 3) of a picture, rows from the top; (X, Y, Z) of a volume.
        affine: (4, 4) voxel index to mm (RAS) of a volume; None of a picture.
    """

    values: np.ndarray
    affine: np.ndarray | None = None

    @property
    def spacing(self) -> list[float]:
        """mm between voxels of a volume; 1 for each axis of a picture."""
        if self.affine is None:
            return [1.0, 1.0]
        return [float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0)]

    @property
    def shape(self) -> tuple[int, ...]:
        """Without channels."""
        return self.values.shape[:2] if self.affine is None else self.values.shape


def is_index_map(path: Path) -> bool:
    """Whether every reader takes the file's own numbers for labels: in a palette or three channels some see colours."""
    if is_volume(path):
        return True
    if not path.name.lower().endswith(".png"):
        return False
    with Image.open(path) as picture:
        return picture.mode in ONE_CHANNEL


def read_image(path: Path, channel: int | None = None) -> Raster:
    """The whole file, decoded to its last byte.

    Raises:
        ValueError: what cannot be read, or is not a picture or a volume.
    """
    if is_volume(path):
        return _read_volume(path, channel)
    picture = _open(path)
    return Raster(np.asarray(picture if picture.mode in ONE_CHANNEL else picture.convert("RGB")))


def read_values(path: Path, values: Collection[int] | None = None) -> Raster:
    """Label values of a file, see :func:`common.label_pictures.value_map`.

    Args:
        path: of a picture or a volume.
        values: that mean a label; None where all do.

    Raises:
        ValueError: as read_image and value_map.
    """
    if is_volume(path):
        volume = _read_volume(path, None)
        return volume._replace(values=inside_as(whole_numbers(volume.values, path.name), values))
    return Raster(value_map(_label_picture(path), values))


def holds(path: Path, given: Raster) -> bool:
    """Whether the values of a file are these ones as they are."""
    return np.array_equal(read_values(path).values, given.values)


def read_binary(path: Path) -> Raster:
    """A mask of one label, 0 and 1. Raises ValueError as read_values, and for more values than two."""
    if is_volume(path):
        volume = read_values(path)
        check_binary(volume.values, path.name)
        return volume._replace(values=(volume.values != 0).astype(np.uint8))
    return Raster(binary_map(_label_picture(path)).astype(np.uint8))


def read_grey(path: Path) -> Raster:
    """Brightness of a mask, with the traces of a compression. Raises ValueError as read_image."""
    if is_volume(path):
        return read_values(path)
    picture = _open(path)
    return Raster(np.asarray(picture if picture.mode in ONE_CHANNEL else picture.convert("L")))


def read_colours(path: Path) -> tuple[Raster, bool]:
    """(H, W, 3) uint8 of a label picture, and whether its format changes pixels. Raises ValueError as read_image."""
    picture = _label_picture(path)
    return Raster(colour_map(picture)), picture.lossy


def difference(label: Raster, image: Raster) -> str | None:
    """How the grid of a label file differs from its image's, as a sentence."""
    if label.shape != image.shape:
        return f"label of {_times(label.shape)}, image of {_times(image.shape)}: grids differ"
    if label.affine is None or image.affine is None:
        return None
    ends = np.array([[0, 0, 0, 1], [*(np.array(image.shape) - 1), 1]]).T
    # Measured in voxels of the image, so that fine and coarse grids are judged alike.
    apart = np.abs(np.linalg.inv(image.affine) @ label.affine @ ends - ends).max()
    if apart > SAME_PLACE * max(1, max(image.shape) / 100):
        return f"label and image have {_times(image.shape)} voxels, but lie {apart:.2g} voxels apart: grids differ"
    return None


def resampled(raster: Raster, spacing: list[float] | None, size: int | None, nearest: bool) -> Raster:
    """A volume at ``spacing`` mm along its own axes, a picture whose longer edge has ``size`` pixels; else itself.

    Args:
        raster: what to resample.
        spacing: three numbers, for volumes.
        size: for pictures.
        nearest: for labels; images are interpolated, averaged where they get coarser.
    """
    if raster.affine is None:
        return _resized(raster, size, nearest) if size and max(raster.shape) != size else raster
    return _respaced(raster, spacing, nearest) if spacing else raster


def write(raster: Raster, path: Path) -> None:
    """A PNG or NIfTI file, by the extension of ``path``."""
    if raster.affine is None:
        Image.fromarray(raster.values).save(path)
        return
    import nibabel

    image = nibabel.Nifti1Image(raster.values, raster.affine)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)


def _label_picture(path: Path) -> LabelPicture:
    _check_picture(path)
    return read_label_picture(path)


def _check_picture(path: Path) -> None:
    if not path.name.lower().endswith(PICTURES):
        raise ValueError(f"{path.name}: not a picture; expected {', '.join(PICTURES)}")


def _open(path: Path) -> Image.Image:
    _check_picture(path)
    try:
        with open_picture(path) as picture:
            picture.load()
            return picture.copy()
    except Exception as error:
        raise ValueError(
            f"{path.name}: cannot be read ({error or type(error).__name__}); copy it again, or take it away"
        ) from error


def _read_volume(path: Path, channel: int | None) -> Raster:
    # Six seconds of imports that pictures do without.
    from common.reading.volume import read_volume

    try:
        volume = read_volume(path, exact=True)
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), path.name, 1)) from error
    values, affine = np.moveaxis(volume.numpy(), 0, -1), volume.affine.numpy()
    values = values[..., 0] if values.shape[-1] == 1 else values
    if values.ndim == 4:
        if channel is None and values.shape[3] > 1:
            raise ValueError(f"{path.name}: {values.shape[3]} channels; choose one with --contrast")
        if (channel or 0) >= values.shape[3]:
            raise ValueError(
                f"{path.name}: {values.shape[3]} channels; expected --contrast with one of them, from 0 on"
            )
        values = values[..., channel or 0]
    if values.ndim != 3:
        raise ValueError(f"{path.name}: an array of {_times(values.shape)}; expected a 3D volume")
    return Raster(values, affine)


def _resized(raster: Raster, size: int, nearest: bool) -> Raster:
    scale = size / max(raster.shape)
    height, width = (max(1, round(n * scale)) for n in raster.shape)
    if nearest:
        return Raster(np.asarray(Image.fromarray(raster.values).resize((width, height), Image.Resampling.NEAREST)))
    values = raster.values
    # Pillow interpolates 8 bits or floats.
    deep = values.dtype != np.uint8
    picture = Image.fromarray(values.astype(np.float32) if deep else values)
    resized = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return Raster(resized.round().astype(values.dtype) if deep and values.dtype.kind in "iu" else resized)


def _respaced(raster: Raster, spacing: list[float], nearest: bool) -> Raster:
    import torch

    from common.geometry import Grid, resample

    source = Grid(raster.affine, raster.values.shape)
    factors = np.array(spacing) / source.spacing
    shape = tuple(int(n) for n in np.maximum(1, np.round(np.array(source.shape) / factors)))
    affine = raster.affine.copy()
    affine[:3, :3] *= factors
    # The outer corners stay where they are, not the centres of the corner voxels.
    affine[:3, 3] = source.to_mm((factors - 1) / 2)
    volume = torch.from_numpy(np.ascontiguousarray(raster.values)[None].astype(np.float32))
    values, _ = resample(volume, source, Grid(affine, shape), "nearest" if nearest else "bilinear")
    values = values[0].numpy()
    if np.issubdtype(raster.values.dtype, np.integer):
        values = values.round().astype(raster.values.dtype)
    return Raster(values, affine)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
