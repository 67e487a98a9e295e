# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What somebody drew, strokes of a brush and outlines, as clicks and a box."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..common.clicks import deepest_point
from ..common.geometry import Grid
from .zoom import extent

POINTS_PER_STROKE = 6


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
        places = grid.to_mm(voxels)
        chosen = [int(np.linalg.norm(places - places.mean(axis=0), axis=1).argmin())]
        distance = np.linalg.norm(places - places[chosen[0]], axis=1)
        while len(chosen) < min(POINTS_PER_STROKE, len(voxels)):
            chosen.append(int(distance.argmax()))
            distance = np.minimum(distance, np.linalg.norm(places - places[chosen[-1]], axis=1))
        points += [[float(x) for x in voxels[i]] for i in chosen]
        labels += [label] * len(chosen)
    return points, labels


def lasso_points(lasso: Tensor, grid: Grid) -> tuple[list[list[float]], list[int]]:
    """The middle of what lies inside the outlines around the object (1), and of what lies inside the others (2).

    Args:
        lasso: (X, Y, Z) uint8, filled outlines in one slice or a few.
        grid: where its voxels lie.

    Returns:
        points as voxel indices, and their labels (1 foreground, 0 background).
    """
    drawn = [(lasso == value, label) for value, label in ((1, 1), (2, 0))]
    found = [(_middle(region, grid), label) for region, label in drawn if bool(region.any())]
    return [point for point, _ in found], [label for _, label in found]


def lasso_box(lasso: Tensor) -> list[list[int]] | None:
    """The lowest and the highest voxel of what is 1, None where nothing is."""
    region = lasso == 1
    if not bool(region.any()):
        return None
    start, stop = extent(region)
    return [start, [n - 1 for n in stop]]


def _middle(region: Tensor, grid: Grid) -> list[float]:
    """A voxel deep inside the largest slice of a region (X, Y, Z) that has some voxels."""
    start, stop = extent(region)
    part = region[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))].cpu().numpy()
    across = int(np.argmin(part.shape))
    index = int(part.sum(axis=tuple(a for a in range(3) if a != across)).argmax())
    place = deepest_point(part.take(index, across), np.delete(grid.spacing, across))
    return [float(a + b) for a, b in zip(np.insert(place, across, index), start, strict=True)]
