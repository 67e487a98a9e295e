# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Volumes and label maps from files, checked before anything is computed with them, and read once."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Hashable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor, NibabelReader
from monai.transforms import LoadImaged

from .common.bounded_cache import BoundedCache, digest, tensor_bytes
from .nifti_reader import CONTENT, NiftiReader
from .row_order import RowOrder

logger = logging.getLogger(__name__)
FORMATS = "a NIfTI, NRRD or MetaImage file, or the folder of one DICOM series"
# All that inference needs of a file's header; the rest would have to survive collation for nothing.
KEPT_META = ("affine", "original_affine", "spatial_shape", "space", "filename_or_obj", "original_channel_dim")
# Files that name others for their voxels.
DETACHED = (".mhd", ".nhdr")
# Warnings are caught for all threads at once: with two folders being read one would be blamed for the other's.
_ONE_FOLDER = Lock()


class LoadVolumed(LoadImaged):
    """MONAI's ``LoadImaged`` for one 3D volume, that says what is wrong with a file.

    The result is a ``MetaTensor`` (1, X, Y, Z), float32, finite, on the stored grid. Its meta holds ``content``, a hash
    of the voxels by which later steps know the volume again, and ``reused``, whether it was in memory already.

    A server is sent every click with the same file: volumes are kept, and a file is read again where it has changed.
    What is kept is what is returned, so later steps must not change voxels in place; a step that makes other voxels
    out of them has to drop ``content`` (which is there only where volumes are kept).

    Args:
        keys: of the paths.
        cache_bytes: of the volumes that are kept; 0 reads every time.

    Raises:
        ValueError: missing or unreadable file, several DICOM series, no 3D volume, several channels, no finite
            voxel, or no contrast.
    """

    def __init__(self, keys: str | list[str] = "image", cache_bytes: int = 0, **kwargs: Any) -> None:
        super().__init__(keys, image_only=True, ensure_channel_first=True, **kwargs)
        readers = self._loader.readers
        self._loader.readers = [NiftiReader() if type(r) is NibabelReader else RowOrder(r) for r in readers]
        self.cache = BoundedCache(cache_bytes, tensor_bytes)

    def __call__(self, data: Mapping[Hashable, Any], reader: Any = None) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            volume, known = self.cache.get(str(d[key]), file_version(d[key]), partial(self._read, d[key]))
            # The voxels are shared among requests; what a request adds to the meta is its own.
            d[key] = MetaTensor(volume.as_tensor(), meta={**volume.meta, "reused": known})
        return d

    def _read(self, path: str) -> MetaTensor:
        stored = read_volume(path, self._loader)
        volume = check_volume(stored, path)
        if self.cache.max_bytes:
            volume.meta["content"] = stored.meta.get(CONTENT) or digest(volume.as_tensor())
        return volume


def file_version(path: str) -> tuple:
    """Another one whenever the content of a file, or of any file of a series, may be another.

    Raises:
        ValueError: nothing there.
    """
    place = _existing(path)
    # The voxels of a detached header lie in a file beside it, under a name of their own.
    folder = place if place.is_dir() else place.parent if place.suffix.lower() in DETACHED else None
    files = [place] if folder is None else sorted(folder.iterdir())
    stats = ((str(f), f.stat() if f.exists() else f.lstat()) for f in files)
    return tuple((f, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for f, s in stats)


def _existing(path: str) -> Path:
    place = Path(path).expanduser()
    if not place.exists():
        raise ValueError(f"{path}: no such file or folder; expected {FORMATS}")
    return place


def read_volume(path: str, loader: Any) -> MetaTensor:
    """Whatever ``loader`` reads from ``path``, channel first.

    Raises:
        ValueError: nothing there, several DICOM series, or unreadable.
    """
    place = _existing(path)
    caught = []
    try:
        with ExitStack() as stack:
            if place.is_dir():
                stack.enter_context(_ONE_FOLDER)
                caught = stack.enter_context(warnings.catch_warnings(record=True))
                warnings.simplefilter("always")
            loaded = loader(path)
    except Exception as error:
        cause = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        raise ValueError(f"{path}: cannot be read ({cause.strip()[:200]}); expected {FORMATS}") from error
    if any("more than one DICOM series" in str(w.message) for w in caught):
        raise ValueError(f"{path}: holds more than one DICOM series; expected the folder of a single one")
    # Servers want the meta data beside the volume: they change the loader so that it returns both.
    return loaded[0] if isinstance(loaded, tuple) else loaded


def check_volume(volume: MetaTensor, path: str) -> MetaTensor:
    """One channel of a 3D volume with contrast, its NaN and infinite voxels replaced and counted."""
    if volume.ndim == 3:
        raise ValueError(f"{path}: a 2D image of {tuple(volume.shape[1:])} pixels; expected a 3D volume")
    if volume.ndim != 4:
        raise ValueError(f"{path}: an array of shape {tuple(volume.shape)}; expected a 3D volume")
    if volume.shape[0] != 1:
        raise ValueError(f"{path}: {volume.shape[0]} channels; expected one: save the one to segment as its own file")
    values = volume.as_tensor().float()
    notes = []
    # One pass over a large volume, instead of one for each question: what is not finite shows in the extremes.
    low, high = (float(v) for v in values.aminmax())
    if not np.isfinite([low, high]).all():
        finite = torch.isfinite(values)
        if not bool(finite.any()):
            raise ValueError(f"{path}: no voxel is a finite number; expected an image with contrast")
        low, high = (float(v) for v in values[finite].aminmax())
        values = torch.where(finite, values, low)
        count = finite.numel() - int(finite.sum())
        notes.append(f"{count} NaN or infinite voxels were replaced by {low:g}, the lowest finite value")
        logger.warning("%s: %s", path, notes[-1])
    if low == high:
        raise ValueError(f"{path}: every voxel has the value {low:g}; expected contrast")
    affine = np.asarray(volume.affine, dtype=np.float64)
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ValueError(f"{path}: the affine {affine.tolist()} is singular; expected one that gives voxels a size")
    meta = {k: volume.meta[k] for k in KEPT_META if k in volume.meta}
    meta["notes"] = json.dumps(notes)
    return MetaTensor(values, meta=meta)


def read_mask(path: str, image: MetaTensor) -> torch.Tensor:
    """:func:`read_labels` as uint8, for masks whose values beyond 255 do not matter."""
    return read_labels(path, image).clamp(max=255).to(torch.uint8)


def read_labels(path: str, image: MetaTensor) -> torch.Tensor:
    """(X, Y, Z) int32 label map from a file, which has to lie on the grid of ``image``.

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
    return values.to(torch.int32)
