# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Volumes and label maps from files: read once, and checked before anything is computed with them."""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from .common.bounded_cache import BoundedCache, digest, tensor_bytes
from .common.files import existing
from .common.intensity import check_range
from .common.reading.files import file_version
from .common.reading.options import Reading
from .common.reading.volume import CONTENT, FORMATS, UNIT, read_volume

logger = logging.getLogger(__name__)
# Labels may be so far off a whole number: of a scale in the file's header, or of 32 bits.
NEARLY_WHOLE = 1e-4
# All that inference needs of a file's header; the rest would have to survive collation for nothing.
KEPT_META = ("affine", "original_affine", "spatial_shape", "space", "filename_or_obj", UNIT)


class LoadVolumed(MapTransform):
    """Reads one 3D volume by :func:`.common.reading.volume.read_volume`, and says what is wrong with a file.

    The result is a ``MetaTensor`` (1, X, Y, Z), float32, finite, on the stored grid. Its meta holds ``notes``, JSON,
    ``content``, a hash of the voxels by which later steps know the volume again, and ``reused``, whether it was in
    memory already.

    A server is sent every click with the same file: volumes are kept, and a file is read again where it has changed.
    What is kept is what is returned, so later steps must not change voxels in place; a step that makes other voxels
    out of them has to drop ``content`` (which is there only where volumes are kept).

    Args:
        keys: of the paths.
        cache_bytes: of the volumes that are kept; 0 reads every time.
        reading: what the user chose; the defaults where it is None.

    Raises:
        ValueError: missing or unreadable file, several DICOM series, no 3D volume, several channels, no finite
            voxel, or no contrast.
    """

    def __init__(self, keys: KeysCollection = "image", cache_bytes: int = 0, reading: Reading | None = None) -> None:
        super().__init__(keys)
        self.reading = reading or Reading()
        self.cache = BoundedCache(cache_bytes, tensor_bytes)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            path = str(d[key])
            version = file_version(existing(path, FORMATS, folders=True))
            volume, known = self.cache.get(path, version, partial(self._read, path))
            # The voxels are shared among requests; what a request adds to the meta is its own.
            d[key] = MetaTensor(volume.as_tensor(), meta={**volume.meta, "reused": known})
        return d

    def _read(self, path: str) -> MetaTensor:
        stored = read_volume(path, self.reading)
        volume = check_volume(stored, path)
        if self.cache.max_bytes:
            volume.meta["content"] = stored.meta.get(CONTENT) or digest(volume.as_tensor())
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
    notes = list(volume.meta.get("notes", []))
    for note in notes:
        logger.warning("%s: %s", path, note)
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
    try:
        check_range(low, high)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
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
    mask = read_volume(path, exact=True)
    if mask.ndim == 4 and len(mask) != 1:
        raise ValueError(f"{path}: {len(mask)} channels; expected one label map: save one number for each object")
    if tuple(mask.shape) != tuple(image.shape):
        raise ValueError(
            f"{path}: {tuple(mask.shape[1:])} voxels, the image has {tuple(image.shape[1:])}; expected its grid"
        )
    if not any(
        _is_same_place(mask.meta[name], image.meta.get(name, image.affine)) for name in ("affine", "original_affine")
    ):
        raise ValueError(f"{path}: its affine is not that of the image; expected a mask on the image's own grid")
    return torch.from_numpy(whole_numbers(mask.numpy()[0], path))


def _is_same_place(affine: Any, other: Any) -> bool:
    affine, other = (np.asarray(a, dtype=np.float64) for a in (affine, other))
    return np.allclose(affine, other, rtol=0, atol=1e-2 * np.linalg.norm(other[:3, :3], axis=0).min())


def whole_numbers(values: np.ndarray, path: str) -> np.ndarray:
    """Label values of any type as int32, none of them changed; what rounding took off a whole number is given back.

    Raises:
        ValueError: other numbers, negative ones, ones beyond the type's, or nothing but 0.
    """
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise ValueError(f"{path}: voxels that are no finite number; expected whole numbers, 0 outside")
        whole = np.rint(values)
        off = np.abs(values - whole)
        if off.max(initial=0) > NEARLY_WHOLE:
            raise ValueError(f"{path}: the value {values.flat[off.argmax()]:g}; expected whole numbers, 0 outside")
        # Beyond this, neighbouring whole numbers are one: labels have been merged when the file was written.
        exact = 2 ** (np.finfo(values.dtype).nmant + 1)
        if whole.max(initial=0) > exact:
            raise ValueError(
                f"{path}: the value {whole.max():.0f} in numbers of {8 * values.itemsize} bits, which hold whole "
                f"numbers up to {exact} one by one; expected labels saved as integers"
            )
        values = whole
    least, most = values.min(initial=0), values.max(initial=0)
    if least < 0 or most > np.iinfo(np.int32).max:
        raise ValueError(
            f"{path}: the value {int(least if least < 0 else most)}; expected whole numbers, 0 outside, up to "
            f"{np.iinfo(np.int32).max}"
        )
    if most == 0:
        raise ValueError(f"{path}: every voxel is 0; expected a mask with some voxels inside")
    return values.astype(np.int32)
