# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What a person without a model would use on the same clicks: the random walker, and growing by geodesic distance.

Both need background from the first click on, when nobody has clicked on it yet: the border of what they look at counts
as background.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from skimage.segmentation import random_walker
from torch import Tensor

from bundles.fastsam3d.scripts.networks.geodesic import geodesic_distance
from common.geometry import Grid, resample
from common.intensity import intensity_bounds, normalise
from common.prompts import ObjectPrompt

FOREGROUND, BACKGROUND = 1, 2
# What holds the random walker back at edges. This, the sizes of seeds and the choice of borders did best for each
# method on 12 objects of volumes that may train shipped weights; scikit-image's default of 130 loses a small seed to
# the large border.
BETA = 20_000.0


class Found(NamedTuple):
    """``labels`` (X, Y, Z) uint8, 1 in the object."""

    labels: Tensor


class ClassicalInferer:
    """Takes the place of ``ClickInferer`` in an evaluation, which calls ``segment``.

    It looks at a box around the first click, along the volume's own axes, coarsened until it has few enough voxels;
    the answer is interpolated back onto the volume's grid.

    Args:
        method: ``random_walker`` (Grady, PAMI 2006; scikit-image's) or ``geodesic`` (nearest click where the image's
            edges count as distance, as in GeoS, Criminisi et al., ECCV 2008).
        side: mm, at most, of the box; that of the network's first cube by default.
        voxels: at most, of the box.

    Raises:
        ValueError: another method.
    """

    def __init__(self, method: str, side: float = 192.0, voxels: int = 100_000) -> None:
        if method not in METHODS:
            raise ValueError(f"method {method!r}: expected one of {', '.join(METHODS)}")
        self.method = METHODS[method]
        self.side = side
        self.voxels = voxels

    def segment(
        self, volume: Tensor, affine: np.ndarray, prompts: Sequence[ObjectPrompt], *args: Any, **kwargs: Any
    ) -> Found:
        """(X, Y, Z) intensities and the clicks of one object -> its mask; no network is asked."""
        (prompt,), whole, grid = prompts, volume[None].float(), Grid(affine, tuple(volume.shape))
        clicks = grid.to_mm(np.array(prompt.points))
        box = box_around(grid, clicks[0], self.side, self.voxels)
        image, inside = resample(whole, grid, box)
        image = normalise(image, inside, intensity_bounds(whole))
        seeds = place_seeds(box, clicks, prompt.labels, self.method.seed_mm)
        if FOREGROUND not in seeds:
            return Found(torch.zeros(grid.shape, dtype=torch.uint8))
        score, shown = resample(self.method.grow(image[0], seeds, box)[None], box, grid, average=False)
        return Found(((score[0] > 0) & shown).to(torch.uint8))


def box_around(grid: Grid, center_mm: np.ndarray, side: float, voxels: int) -> Grid:
    """The part of ``grid`` within ``side / 2`` mm of a place along each axis, in at most about ``voxels`` voxels."""
    center = grid.to_voxels(center_mm)
    half = side / 2 / grid.spacing
    start = np.maximum(np.ceil(center - half), 0)
    extent = (np.minimum(np.floor(center + half), np.array(grid.shape) - 1) - start + 1) * grid.spacing
    step = float(grid.spacing.min())
    while np.prod(np.ceil(extent / np.maximum(grid.spacing, step))) > voxels:
        step *= 1.05
    shape = np.ceil(extent / np.maximum(grid.spacing, step))
    factors = extent / shape / grid.spacing
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3] * factors
    affine[:3, 3] = grid.to_mm(start + (factors - 1) / 2)
    return Grid(affine, tuple(int(n) for n in shape))


def place_seeds(box: Grid, clicks_mm: np.ndarray, labels: Sequence[int], radius: float) -> np.ndarray:
    """(X, Y, Z) uint8: 1 around clicks on the object, 2 around those on the background and on the border.

    The border is that of the two longer axes: along the shortest one the volume often ends within the object.

    Args:
        box: the voxels.
        clicks_mm: (N, 3); one outside the box has no effect.
        labels: 1 or 0 of each click.
        radius: mm around a click that count as clicked; its voxel at least.
    """
    seeds = np.zeros(box.shape, np.uint8)
    for axis in np.argsort(np.array(box.shape) * box.spacing)[1:]:
        if box.shape[axis] > 2:
            np.moveaxis(seeds, axis, 0)[[0, -1]] = BACKGROUND
    for click, label in zip(box.to_voxels(clicks_mm).round().astype(int), labels, strict=True):
        if ((click >= 0) & (click < box.shape)).all():
            steps = np.ogrid[tuple(slice(-c, n - c) for c, n in zip(click, box.shape, strict=True))]
            distance = sum((step * mm) ** 2 for step, mm in zip(steps, box.spacing, strict=True))
            seeds[distance <= radius**2] = FOREGROUND if label else BACKGROUND
    return seeds


def _walk(image: Tensor, seeds: np.ndarray, box: Grid) -> Tensor:
    """Probability of reaching the foreground first, less one half."""
    if BACKGROUND not in seeds:
        return torch.ones(image.shape)
    with warnings.catch_warnings():
        # Without pyamg scikit-image says at each call that another solver could be faster.
        warnings.simplefilter("ignore")
        found = random_walker(
            image.numpy(), seeds.astype(np.int32), BETA, "cg_j", tol=1e-3, return_full_prob=True, spacing=box.spacing
        )
    return torch.from_numpy(found[0]).float() - 0.5


def _grow(image: Tensor, seeds: np.ndarray, box: Grid) -> Tensor:
    """How much nearer the foreground is than the background."""
    marked = torch.from_numpy(np.stack([seeds == FOREGROUND, seeds == BACKGROUND]))
    near, far = geodesic_distance(image[None, None], marked[None])[0]
    return far - near


class Method(NamedTuple):
    """How a mask grows out of seeds, and how many mm around a click are seeds."""

    grow: Callable[[Tensor, np.ndarray, Grid], Tensor]
    seed_mm: float


METHODS = {"random_walker": Method(_walk, 3.0), "geodesic": Method(_grow, 0.0)}
