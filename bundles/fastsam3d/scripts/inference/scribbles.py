# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Strokes of a brush as points that the prompt encoder understands."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..common.geometry import Grid

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
