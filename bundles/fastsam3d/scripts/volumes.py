# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Volumes and label maps from files, checked before anything is computed with them."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImaged

logger = logging.getLogger(__name__)
FORMATS = "a NIfTI, NRRD or MetaImage file, or the folder of one DICOM series"
# All that inference needs of a file's header; the rest would have to survive collation for nothing.
KEPT_META = ("affine", "original_affine", "spatial_shape", "space", "filename_or_obj", "original_channel_dim")


class LoadVolumed(LoadImaged):
    """MONAI's ``LoadImaged`` for one 3D volume, that says what is wrong with a file.

    The result is a ``MetaTensor`` (1, X, Y, Z), float32, finite, on the stored grid.

    Raises:
        ValueError: missing or unreadable file, several DICOM series, no 3D volume, several channels, no finite
            voxel, or no contrast.
    """

    def __init__(self, keys: str | list[str] = "image", **kwargs: Any) -> None:
        super().__init__(keys, image_only=True, ensure_channel_first=True, **kwargs)

    def __call__(self, data: Mapping[Hashable, Any], reader: Any = None) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = check_volume(read_volume(d[key], self._loader), d[key])
        return d


def read_volume(path: str, loader: Any) -> MetaTensor:
    """Whatever ``loader`` reads from ``path``, channel first.

    Raises:
        ValueError: nothing there, several DICOM series, or unreadable.
    """
    if not Path(path).expanduser().exists():
        raise ValueError(f"{path}: no such file or folder; expected {FORMATS}")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            volume = loader(path)
    except Exception as error:
        cause = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        raise ValueError(f"{path}: cannot be read ({cause.strip()[:200]}); expected {FORMATS}") from error
    if any("more than one DICOM series" in str(w.message) for w in caught):
        raise ValueError(f"{path}: holds more than one DICOM series; expected the folder of a single one")
    return volume


def check_volume(volume: MetaTensor, path: str) -> MetaTensor:
    """One channel of a 3D volume with contrast, its NaN and infinite voxels replaced and counted."""
    if volume.ndim == 3:
        raise ValueError(f"{path}: a 2D image of {tuple(volume.shape[1:])} pixels; expected a 3D volume")
    if volume.ndim != 4:
        raise ValueError(f"{path}: an array of shape {tuple(volume.shape)}; expected a 3D volume")
    if volume.shape[0] != 1:
        raise ValueError(f"{path}: {volume.shape[0]} channels; expected one: save the one to segment as its own file")
    values = volume.as_tensor().float()
    finite = torch.isfinite(values)
    count = values.numel() - int(finite.sum())
    notes = []
    if count == values.numel():
        raise ValueError(f"{path}: no voxel is a finite number; expected an image with contrast")
    if count:
        lowest = float(values[finite].min())
        values = torch.where(finite, values, lowest)
        notes.append(f"{count} NaN or infinite voxels were replaced by {lowest:g}, the lowest finite value")
        logger.warning("%s: %s", path, notes[-1])
    if bool((values == values.flatten()[0]).all()):
        raise ValueError(f"{path}: every voxel has the value {float(values.flatten()[0]):g}; expected contrast")
    affine = np.asarray(volume.affine, dtype=np.float64)
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ValueError(f"{path}: the affine {affine.tolist()} is singular; expected one that gives voxels a size")
    meta = {k: volume.meta[k] for k in KEPT_META if k in volume.meta}
    meta["notes"] = json.dumps(notes)
    return MetaTensor(values, meta=meta)


def read_mask(path: str, image: MetaTensor) -> torch.Tensor:
    """(X, Y, Z) uint8 label map from a file, which has to lie on the grid of ``image``.

    Raises:
        ValueError: unreadable, on another grid, or empty.
    """
    mask = read_volume(path, LoadImaged("image", image_only=True, ensure_channel_first=True)._loader)
    if tuple(mask.shape) != tuple(image.shape):
        raise ValueError(
            f"{path}: {tuple(mask.shape[1:])} voxels, the image has {tuple(image.shape[1:])}; expected its grid"
        )
    tolerance = 1e-2 * float(np.linalg.norm(np.asarray(image.affine)[:3, :3], axis=0).min())
    if not np.allclose(np.asarray(mask.affine), np.asarray(image.affine), atol=tolerance):
        raise ValueError(f"{path}: its affine is not that of the image; expected a mask on the image's own grid")
    values = mask.as_tensor()[0]
    if not torch.isfinite(values).all() or not (values == values.round()).all() or values.min() < 0:
        raise ValueError(f"{path}: expected whole numbers, 0 outside")
    if not bool((values > 0).any()):
        raise ValueError(f"{path}: every voxel is 0; expected a mask with some voxels inside")
    return values.clamp(max=255).to(torch.uint8)
