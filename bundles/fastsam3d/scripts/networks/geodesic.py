# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Geodesic distance of every cell from a click: crossing an edge of the image makes a path longer."""

from __future__ import annotations

from collections.abc import Sequence

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
    costs = []
    for axis in (2, 3, 4):
        cost = torch.zeros_like(image)
        cost.narrow(axis, 1, image.shape[axis] - 1).copy_(image.diff(dim=axis).abs() + STEP)
        costs.append(cost)
    # A GPU and a graph to be exported want few steps over whole tensors; a CPU is faster row by row, in place.
    few_steps = image.device.type != "cpu" or torch.jit.is_tracing() or torch.compiler.is_compiling()
    return (_sweep_whole if few_steps else _sweep_rows)(distance, costs, rounds)


def _sweep_whole(distance: Tensor, costs: Sequence[Tensor], rounds: int) -> Tensor:
    lengths = [cost.cumsum(axis) for axis, cost in zip((2, 3, 4), costs, strict=True)]
    for _ in range(rounds):
        for axis, length in zip((2, 3, 4), lengths, strict=True):
            forward = running_minimum(distance - length, axis) + length
            backward = running_minimum(distance + length, axis, backward=True) - length
            distance = torch.minimum(forward, backward)
    return distance


def _sweep_rows(distance: Tensor, costs: Sequence[Tensor], rounds: int) -> Tensor:
    # With objects and sets of seeds innermost the rows of the first two axes are whole pieces of memory. Those of the
    # last one are scattered in tiny pieces: it is cheaper to turn everything around for them, and back.
    distance = distance.permute(2, 3, 4, 0, 1).contiguous()
    turned = distance.permute(2, 0, 1, 3, 4).contiguous()
    x, y, z = (cost.permute(2, 3, 4, 0, 1).expand_as(distance) for cost in costs)
    rows = distance.unbind(0), x.contiguous().unbind(0)
    columns = distance.unbind(1), y.contiguous().unbind(1)
    slices = turned.unbind(0), z.permute(2, 0, 1, 3, 4).contiguous().unbind(0)
    for _ in range(rounds):
        _sweep(*rows)
        _sweep(*columns)
        turned.copy_(distance.permute(2, 0, 1, 3, 4))
        _sweep(*slices)
        distance.copy_(turned.permute(1, 2, 0, 3, 4))
    return distance.permute(3, 4, 0, 1, 2).contiguous()


def _sweep(rows: Sequence[Tensor], costs: Sequence[Tensor]) -> None:
    """Sweep forwards and backwards over rows; stepping from one row to the next has a cost."""
    way = torch.empty_like(rows[0])
    for before, here, cost in zip(rows[:-1], rows[1:], costs[1:], strict=True):
        torch.minimum(here, torch.add(before, cost, out=way), out=here)
    for here, after, cost in zip(rows[-2::-1], rows[:0:-1], costs[:0:-1], strict=True):
        torch.minimum(here, torch.add(after, cost, out=way), out=here)


def running_minimum(x: Tensor, axis: int, backward: bool = False) -> Tensor:
    """The running minimum along an axis, forwards or backwards: torch.cummin without the indices.

    It takes log2(n) steps over whole tensors. On a CPU that is several times as fast as cummin, and ONNX can export it.
    """
    size, step = x.shape[axis], 1
    while step < size:
        early, late = x.narrow(axis, 0, size - step), x.narrow(axis, step, size - step)
        least = torch.minimum(early, late)
        ends = [least, x.narrow(axis, size - step, step)] if backward else [x.narrow(axis, 0, step), least]
        x, step = torch.cat(ends, axis), 2 * step
    return x
