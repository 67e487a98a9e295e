# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What a person draws around or into an object that they know: sections, outlines, masks."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from common.clicks import deepest_point

from .objects import Labelled


def section(thing: Labelled, slices: int = 1, axis: int = 2) -> np.ndarray:
    """(X, Y, Z) bool: what ``slices`` slices across ``axis``, the last one by default, show of the object's middle."""
    middle, extent = deepest_point(thing.truth, thing.grid.spacing)[axis], np.argwhere(thing.truth)[:, axis]
    first = int(np.clip(middle - slices // 2, extent.min(), max(extent.min(), extent.max() + 1 - slices)))
    part = np.zeros_like(thing.truth)
    cut = tuple(slice(first, first + slices) if k == axis else slice(None) for k in range(3))
    part[cut] = thing.truth[cut]
    return part


def lasso(thing: Labelled) -> np.ndarray:
    """(X, Y, Z) uint8: the middle slice within an outline drawn a voxel outside the object, smoothed as a hand does."""
    part = section(thing)
    index = int(np.argwhere(part)[0, 2])
    drawn = np.zeros(part.shape, dtype=np.uint8)
    around = ndimage.binary_dilation(ndimage.binary_closing(np.pad(part[..., index], 3), iterations=2))
    drawn[..., index] = around[3:-3, 3:-3]
    return drawn


def spoiled(thing: Labelled, how: str) -> np.ndarray:
    """The truth as somebody may have drawn it: ``whole``, ``eroded`` by a layer, or with a ``lump`` beside it."""
    if how == "whole":
        return thing.truth
    if how == "eroded":
        smaller = ndimage.binary_erosion(thing.truth)
        return smaller if smaller.any() else thing.truth
    lump = np.zeros_like(thing.truth)
    lump[beside(thing)] = True
    radius = max(2.0, 0.3 * (thing.truth.sum() * np.prod(thing.grid.spacing)) ** (1 / 3))
    return thing.truth | (ndimage.distance_transform_edt(~lump, thing.grid.spacing) <= radius)


def beside(thing: Labelled) -> tuple[int, ...]:
    """A voxel outside the object, some mm from its border."""
    far = ndimage.distance_transform_edt(~thing.truth, thing.grid.spacing)
    wanted = max(float(thing.grid.spacing.max()), 0.2 * (thing.truth.sum() * np.prod(thing.grid.spacing)) ** (1 / 3))
    return tuple(int(i) for i in np.unravel_index(int(np.abs(far - wanted).argmin()), far.shape))
