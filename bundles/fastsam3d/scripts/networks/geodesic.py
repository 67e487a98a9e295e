# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""How far a click is from every cell where the image's edges count as distance."""

from __future__ import annotations

import torch
from torch import Tensor

# Cost of a step of one cell, beside the change of the image in standard deviations.
STEP = 0.02
FAR = 1e3


def geodesic_distance(image: Tensor, seeds: Tensor, rounds: int = 6) -> Tensor:
    """The cheapest path from the seeds to every cell: a step costs a little, and the change of intensity along it.

    Lines are swept whole, by cumulative minima in both directions of each axis in turn; ``rounds`` bounds the turns
    that a path may take. Geodesic maps of clicks as a network's input are those of DeepIGeoS (arXiv 1707.00652).

    Args:
        image: (N, 1, D, H, W), about one standard deviation a unit.
        seeds: (N, K, D, H, W) bool: K sets of seeds for each image.
        rounds: turns through all axes.

    Returns:
        (N, K, D, H, W), ``FAR`` where there is no seed.
    """
    distance = torch.where(seeds, 0.0, FAR).to(image.dtype)
    lengths = []
    for axis in (2, 3, 4):
        change = torch.zeros_like(image)
        change.narrow(axis, 1, image.shape[axis] - 1).copy_(image.diff(dim=axis).abs() + STEP)
        lengths.append(change.cumsum(axis))
    for _ in range(rounds):
        for axis, length in zip((2, 3, 4), lengths, strict=True):
            forward = (distance - length).cummin(axis).values + length
            backward = ((distance + length).flip(axis).cummin(axis).values).flip(axis) - length
            distance = torch.minimum(forward, backward)
    return distance
