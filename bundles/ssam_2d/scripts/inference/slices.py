# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A file as slices: a 2D image is one slice, a volume is sliced as a radiologist sees it."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor

from ..common.planes import Plane
from ..common.reading.options import MAX_PIXELS, MAX_VOXELS, Reading
from ..image_files import is_volume, read_slices
from ..images import LoadImage2Dd, to_display


class LoadSlicesd(LoadImage2Dd):
    """Reads a 2D image as :class:`..images.LoadImage2Dd` does, and a volume for being taken slice by slice.

    A volume becomes (1, X, Y, Z), float32, 0 to 255 by one window for all slices, on its stored grid. Its meta holds
    ``affine``, ``spatial_shape``, ``filename_or_obj`` and ``plane``, the name of the plane of the slices.

    Args:
        keys: of the paths.
        window: see :class:`..images.LoadImage2Dd`.
        slice_axis: see :meth:`..common.planes.Plane.of`.
        max_pixels: see :class:`..images.LoadImage2Dd`.
        max_voxels: the same of a volume.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        window: str | Sequence[float] = "auto",
        slice_axis: str | int = "auto",
        max_pixels: int = MAX_PIXELS,
        max_voxels: int = MAX_VOXELS,
    ) -> None:
        super().__init__(keys, window, max_pixels)
        self.slice_axis = slice_axis
        self.reading = Reading(max_voxels=max_voxels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._read_volume(str(d[key])) if is_volume(d[key]) else self.read_image(str(d[key]))
        return d

    def _read_volume(self, path: str) -> MetaTensor:
        volume = read_slices(path, self.reading)
        affine = np.asarray(volume.affine, dtype=np.float64)
        # Refuses another name before anything is computed.
        Plane.of(affine, volume.shape[1:], self.slice_axis)
        try:
            shown = to_display(volume.as_tensor(), self.window)
        except ValueError as problem:
            raise ValueError(f"{path}: {problem}") from problem
        meta = {
            "filename_or_obj": path,
            "spatial_shape": np.array(volume.shape[1:]),
            "original_affine": volume.meta["original_affine"],
            "plane": str(self.slice_axis),
            "notes": json.dumps(volume.meta["notes"]),
        }
        return MetaTensor(shown, affine=affine, meta=meta)
