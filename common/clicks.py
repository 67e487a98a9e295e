# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Simulated clicks: in the middle of an object, then in the middle of the remaining error.

Two forms: the deepest point, which is deterministic and serves evaluation, and random points, with which networks
are trained (FastSAM3D, section 2.3: the first clicks from the distance transform of the larger error, then anywhere
in it).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

FORMS = ("deepest", "distance", "random")


class Click(NamedTuple):
    """A click.

    Attributes:
        voxel: its index along each axis.
        label: 1 says that the object is here, 0 that it is not.
    """

    voxel: tuple[int, ...]
    label: int


def deepest_point(region: np.ndarray, spacing: Sequence[float] | None = None) -> tuple[int, ...]:
    """The voxel of a region that lies farthest from its border, the one of lowest index where several do.

    Args:
        region: bool, any number of axes. The image's border counts as the region's border.
        spacing: mm between voxels along each axis, where these differ: an object of few thick slices is not flat.

    Raises:
        ValueError: an empty region.
    """
    box = _bounding_box(region)
    depth = _depth(region[box], spacing)
    inside = np.unravel_index(int(depth.argmax()), depth.shape)
    return tuple(int(i + s.start) for i, s in zip(inside, box, strict=True))


def random_inner_point(region: np.ndarray, rng: np.random.Generator) -> tuple[int, ...]:
    """A random voxel of the region's inner part, where it is more than half as deep as at its deepest point.

    Args:
        region: bool, any number of axes.
        rng: random numbers.

    Raises:
        ValueError: an empty region.
    """
    box = _bounding_box(region)
    depth = _depth(region[box])
    inside = _random_voxel(depth > depth.max() / 2, rng)
    return tuple(int(i + s.start) for i, s in zip(inside, box, strict=True))


def error_click(
    prediction: np.ndarray,
    target: np.ndarray,
    how: str = "deepest",
    rng: np.random.Generator | None = None,
    spacing: Sequence[float] | None = None,
) -> Click | None:
    """The click that corrects a prediction.

    Args:
        prediction: bool, the mask as it is.
        target: bool, the mask as it should be, of the same shape.
        how: ``deepest`` for the deepest point of the largest connected piece of missing or surplus voxels;
            ``distance`` for a random inner voxel of the larger of the two errors, missing or surplus;
            ``random`` for any voxel that is wrong.
        rng: random numbers; not needed for ``deepest``.
        spacing: mm between voxels, for ``deepest``; see :func:`deepest_point`.

    Returns:
        The click, or None where nothing is wrong.

    Raises:
        ValueError: shapes that differ, an unknown form, or a random form without ``rng``.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction of shape {prediction.shape}, target of {target.shape}: expected the same")
    if how not in FORMS:
        raise ValueError(f"how={how!r}: expected one of {', '.join(FORMS)}")
    if how != "deepest" and rng is None:
        raise ValueError(f"how={how!r} draws at random: give rng=numpy.random.default_rng(seed)")
    wrong = prediction != target
    if not wrong.any():
        return None
    if how == "deepest":
        voxel = deepest_point(_largest_piece(wrong & target, wrong & prediction), spacing)
    elif how == "distance":
        missing, surplus = wrong & target, wrong & prediction
        voxel = random_inner_point(missing if missing.sum() >= surplus.sum() else surplus, rng)
    else:
        voxel = _random_voxel(wrong, rng)
    return Click(voxel, int(target[voxel]))


def _largest_piece(*masks: np.ndarray) -> np.ndarray:
    """The connected piece (by faces) with most voxels among all masks; the first found where several have as many."""
    best, size = masks[0], 0
    for mask in masks:
        if not mask.any():
            continue
        box = _bounding_box(mask)
        pieces, _ = ndimage.label(mask[box])
        sizes = np.bincount(pieces.reshape(-1))
        sizes[0] = 0
        if sizes.max() > size:
            best, size = np.zeros_like(mask), sizes.max()
            best[box] = pieces == sizes.argmax()
    return best


def _depth(region: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
    # The frame of background voxels makes the border of the box a border of the region.
    padded = np.pad(region, 1)
    return ndimage.distance_transform_edt(padded, spacing)[(slice(1, -1),) * region.ndim]


def _bounding_box(region: np.ndarray) -> tuple[slice, ...]:
    box = []
    for axis in range(region.ndim):
        used = np.flatnonzero(region.any(axis=tuple(a for a in range(region.ndim) if a != axis)))
        if not len(used):
            raise ValueError("the region is empty: expected at least one voxel")
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)


def _random_voxel(region: np.ndarray, rng: np.random.Generator) -> tuple[int, ...]:
    voxels = np.flatnonzero(region)
    return tuple(int(i) for i in np.unravel_index(voxels[rng.integers(len(voxels))], region.shape))
