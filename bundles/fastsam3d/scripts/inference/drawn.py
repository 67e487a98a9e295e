# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What somebody drew, strokes of a brush and outlines, as clicks."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..common.clicks import deepest_point
from ..common.geometry import Grid
from .zoom import extent

POINTS_PER_STROKE = 6
# Of an outline: how many points inside it and outside it, and how many voxels from it.
POINTS_PER_SIDE, RING = 8, 2


def scribble_points(strokes: Tensor, grid: Grid) -> tuple[list[list[float]], list[int]]:
    """A few points spread over the foreground strokes (1) and the background strokes (2) of a label map.

    The first is the stroke's voxel nearest to its mean, each further one the farthest from those before it.

    Args:
        strokes: (X, Y, Z) uint8.
        grid: where its voxels lie; distances are in mm.

    Returns:
        points as voxel indices, and their labels (1 foreground, 0 background).
    """
    points: list[list[float]] = []
    labels: list[int] = []
    for value, label in ((1, 1), (2, 0)):
        voxels = torch.nonzero(strokes == value).cpu().numpy()
        if not len(voxels):
            continue
        middle = voxels[int(np.linalg.norm((voxels - voxels.mean(axis=0)) * grid.spacing, axis=1).argmin())]
        chosen = [middle, *_spread(voxels, grid.spacing, [middle], POINTS_PER_STROKE - 1)]
        points += [[float(x) for x in place] for place in chosen]
        labels += [label] * len(chosen)
    return points, labels


def lasso_points(lasso: Tensor, grid: Grid) -> tuple[list[list[float]], list[int]]:
    """What filled outlines say, as clicks.

    The first is the middle of the largest outline around the object; others lie spread inside the outlines, away from
    their border, and right outside them. Then the middle of what the others show that is not the object.

    Args:
        lasso: (X, Y, Z) uint8, in one slice or a few: 1 inside outlines around the object, 2 inside others.
        grid: where its voxels lie.

    Returns:
        points as voxel indices, and their labels (1 foreground, 0 background).
    """
    points: list[list[float]] = []
    labels: list[int] = []
    for region, label in ((lasso == 1, 1), (lasso == 2, 0)):
        if not bool(region.any()):
            continue
        start, stop = extent(region)
        low = np.maximum(0, np.array(start) - RING)
        part = tuple(slice(a, b + RING) for a, b in zip(low, stop, strict=True))
        drawn, others = region[part].cpu().numpy(), (lasso[part] != 0).cpu().numpy()
        across = int(np.argmin(np.ptp(np.argwhere(drawn), axis=0)))
        found, said = [_middle(drawn, across, grid.spacing)], [label]
        if label:
            flat = np.expand_dims(np.ones((3, 3), dtype=bool), across)
            deep = ndimage.binary_erosion(drawn, flat, RING)
            beyond = ndimage.binary_dilation(drawn, flat, RING) & ~ndimage.binary_dilation(drawn, flat, RING - 1)
            for side, value in ((deep, 1), (beyond & ~others, 0)):
                more = _spread(np.argwhere(side), grid.spacing, found[:1], POINTS_PER_SIDE)
                found, said = found + more, said + [value] * len(more)
        points += [[float(a + b) for a, b in zip(place, low, strict=True)] for place in found]
        labels += said
    return points, labels


def _spread(voxels: np.ndarray, spacing: np.ndarray, first: list[np.ndarray], count: int) -> list[np.ndarray]:
    """Up to ``count`` of ``voxels`` (N, 3), each the farthest in mm from ``first`` and from those before it."""
    chosen: list[np.ndarray] = []
    if not len(voxels):
        return chosen
    distance = np.min([np.linalg.norm((voxels - f) * spacing, axis=1) for f in first], axis=0)
    while len(chosen) < count and distance.max() > 0:
        chosen.append(voxels[int(distance.argmax())])
        distance = np.minimum(distance, np.linalg.norm((voxels - chosen[-1]) * spacing, axis=1))
    return chosen


def _middle(region: np.ndarray, across: int, spacing: np.ndarray) -> np.ndarray:
    """A voxel deep inside the largest slice of a region (X, Y, Z) that has some voxels."""
    index = int(region.sum(axis=tuple(a for a in range(3) if a != across)).argmax())
    place = deepest_point(region.take(index, across), np.delete(spacing, across))
    return np.insert(place, across, index)
