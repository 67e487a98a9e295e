# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The spacing of the cube for an object, and of finer and coarser cubes after it; :mod:`.search` uses these."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..common.geometry import Grid, cube_around

# The object may reach this share of the half side of its cube: the rest is the context that the network needs.
FILL = 0.8
# Voxels of the finest cube along a voxel of the image. With ``CELL`` of them a cell is the image's voxel; finer ones
# show no more of it, yet a small object fills as much of its cube as the network is used to.
FINEST = 4
# A cube less than so many times narrower shows too little more to be worth another encoding. Where the first answer
# asks for one that is much narrower, it need not be asked again.
NARROWER, MUCH_NARROWER = 2.0, 2.8
# Voxels of a cube along a cell of the default network's logits.
CELL = 2
# A box of so few slices, and so much thinner than wide, was drawn on slices.
FLAT_SLICES, FLAT = 4, 0.75
# Spacings are steps of sqrt(2) from the default one, so that similar masks lead to the same cube (and embedding).
STEP = math.sqrt(2.0)


def step_up(spacing: float, default: float) -> float:
    """The smallest step that is at least ``spacing``."""
    steps = math.log(max(spacing, 1e-6) / default) / math.log(STEP)
    return default * STEP ** math.ceil(steps - 1e-6)


def finest_spacing(image: Grid, default: float) -> float:
    """The finest step at which the image is looked at, ``FINEST`` voxels to one of its own, never above the default."""
    return min(default, step_up(float(image.spacing.min()) / FINEST, default))


def first_spacing(image: Grid, size: int, default: float) -> float:
    """The default, or a finer step for an image that is smaller than the cube: what lies outside needs no cells."""
    corners = image.corners_mm()
    widest = float((corners.max(axis=0) - corners.min(axis=0)).max())
    return min(default, max(step_up(widest / size, default), finest_spacing(image, default)))


def spacing_for(points_mm: np.ndarray, center_mm: np.ndarray, size: int, default: float) -> float:
    """The smallest step at which a cube around ``center_mm`` shows all of ``points_mm`` (N, 3) with context."""
    radius = float(np.abs(points_mm - center_mm).max())
    return step_up(radius / (FILL * size / 2), default)


def box_corners_mm(box: Sequence[Sequence[float]], image: Grid) -> np.ndarray:
    """(8, 3) mm: the corners of a box given by its lowest and highest voxel, both inside it."""
    low, high = np.array(box[0]) - 0.5, np.array(box[1]) + 0.5
    return image.to_mm(np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, 8).T)


def thickened(box: Sequence[Sequence[float]], image: Grid) -> list[list[float]] | None:
    """A box drawn on one slice or a few, as thick as it is wide, within the image; None for one that is not flat.

    A box of few slices says where the object is in them, and nothing of how far it goes on.

    Args:
        box: lowest and highest voxel, both inside it.
        image: the volume's grid.
    """
    low, high = np.array(box[0], dtype=float), np.array(box[1], dtype=float)
    sides = (high - low + 1) * image.spacing
    axis = int(sides.argmin())
    narrower_side = float(np.delete(sides, axis).min())
    if high[axis] - low[axis] + 1 > FLAT_SLICES or sides[axis] > FLAT * narrower_side:
        return None
    half = narrower_side / image.spacing[axis] / 2
    middle = (low[axis] + high[axis]) / 2
    low[axis] = max(0.0, min(low[axis], middle - half + 0.5))
    high[axis] = min(image.shape[axis] - 1.0, max(high[axis], middle + half - 0.5))
    return [low.tolist(), high.tolist()]


def extent(mask: Tensor) -> tuple[list[int], list[int]]:
    """Start and stop indices of the box around the true voxels (at least one) of ``mask`` (X, Y, Z), stop excluded."""
    # Reduced axis by axis: over two at once torch is many times as slow, and a list of all true voxels could be larger
    # than the volume. MONAI's generate_spatial_bounding_box passes three times over the volume and takes 2.3 to 2.9
    # times as long.
    face = mask.any(dim=0)
    bounds = [torch.nonzero(line).flatten() for line in (mask.any(dim=2).any(dim=1), face.any(dim=1), face.any(dim=0))]
    return [int(b[0]) for b in bounds], [int(b[-1]) + 1 for b in bounds]


def extent_mm(mask: Tensor, grid: Grid) -> np.ndarray:
    """(8, 3) mm: the corners of the box around the true voxels (at least one) of ``mask`` (X, Y, Z)."""
    return grid.crop(*extent(mask)).corners_mm()


def touches_border(mask: Tensor, inside: Tensor) -> bool:
    """Whether ``mask`` reaches a face of its cube beyond which the image goes on.

    Args:
        mask: (X, Y, Z) bool.
        inside: (X, Y, Z) bool, where the image is.
    """
    reached = mask & inside
    return any(bool(reached.select(axis, index).any()) for axis in range(3) for index in (0, -1))


def finer(
    cube: Grid, shown_mm: np.ndarray, image: Grid, default: float, sizes: tuple[int, int], narrower: float = NARROWER
) -> Grid | None:
    """A narrower cube of the same centre that shows ``shown_mm`` (N, 3) with context; None where there is none.

    Where the image's own voxels are so coarse
    that few voxels show all of it, the cube has few: it is encoded in a part of the time.

    Args:
        cube: that was looked at.
        shown_mm: places that the finer one has to show.
        image: the volume's grid.
        default: spacing of a cube of the usual size where nothing is known.
        sizes: voxels a side, few and usual.
        narrower: how many times at least.
    """
    few, size = sizes
    spacing = max(spacing_for(shown_mm, cube.center_mm, size, default), finest_spacing(image, default))
    width = spacing * size
    if width > _width(cube) / narrower * (1 + 1e-6):
        return None
    enough = CELL * width / few <= float(image.spacing.min()) * (1 + 1e-6)
    voxels = few if enough else size
    return cube_around(cube.center_mm, width / voxels, voxels)


def coarser(cube: Grid, image: Grid, size: int) -> Grid | None:
    """The next cube, twice as wide or as wide as the image; None where the last one showed the whole image.

    It keeps its centre as far as it can without showing what lies outside the image.

    Args:
        cube: that was looked at.
        image: the volume's grid.
        size: voxels a side of the next one.
    """
    spacing = _width(cube) / size
    corners, shown = image.corners_mm(), cube.corners_mm()
    low, high = corners.min(axis=0), corners.max(axis=0)
    # Rounding must not make a cube that shows all of the image seem to miss a sliver of it.
    if (shown.min(axis=0) <= low + 0.01 * spacing).all() and (shown.max(axis=0) >= high - 0.01 * spacing).all():
        return None
    spacing = max(spacing, min(2 * spacing, float((high - low).max()) / size))
    half = spacing * size / 2
    middle = (low + high) / 2
    center = np.clip(cube.center_mm, np.minimum(low + half, middle), np.maximum(high - half, middle))
    return cube_around(center, spacing, size)


def _width(cube: Grid) -> float:
    """Of a cube, in mm."""
    return float(cube.spacing[0]) * cube.shape[0]
