# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Where a simulated person clicks in the errors of many objects: one by one on a CPU, all at once on a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..common.clicks import error_click
from .cubes import INNER_SHARE, random_point

# Cells times cells of a side for which distances are measured in one go: some hundred MB.
AT_ONCE = 1 << 27


class OneByOne:
    """Clicks as :mod:`..common.clicks` defines them, for masks in the memory of the CPU."""

    def errors(
        self, predictions: Tensor, targets: Tensor, forms: Sequence[str], rngs: Sequence[np.random.Generator]
    ) -> tuple[Tensor, Tensor]:
        """A click in what is wrong with each of N objects; one that says nothing new where nothing is wrong.

        Args:
            predictions, targets: (N, s, s, s) bool.
            forms: of each object's click, see :func:`..common.clicks.error_click`.
            rngs: random numbers of each object.

        Returns:
            cells (N, 3) and labels (N,), 1 on the object, in the memory of the CPU.
        """
        clicks = []
        for prediction, target, form, rng in zip(predictions.numpy(), targets.numpy(), forms, rngs, strict=True):
            click = error_click(prediction, target, form, rng)
            clicks.append(click if click else (random_point(target, rng), 1))
        return torch.tensor(np.array([c[0] for c in clicks])), torch.tensor([c[1] for c in clicks])

    def within(self, regions: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """A cell (N, 3) of each region (N, s, s, s), three times of four in its inner part."""
        return torch.tensor(np.array([random_point(r, rng) for r, rng in zip(regions.numpy(), rngs, strict=True)]))


class AllAtOnce:
    """The same on the device where the masks lie, for a GPU that would wait for a CPU otherwise.

    It does not tell connected pieces apart: the deepest click lies in the deepest point of the larger error.
    """

    def errors(
        self, predictions: Tensor, targets: Tensor, forms: Sequence[str], rngs: Sequence[np.random.Generator]
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`OneByOne.errors`."""
        wrong = predictions != targets
        missing, surplus = wrong & targets, wrong & predictions
        larger = _each(missing.flatten(1).sum(1) >= surplus.flatten(1).sum(1), missing, surplus)
        anywhere = torch.tensor([form == "random" for form in forms], device=wrong.device)
        right = ~wrong.flatten(1).any(1)
        regions = _each(right, targets, _each(anywhere, wrong, larger))
        inner = torch.tensor([form == "distance" for form in forms], device=wrong.device)
        inner = torch.where(right, self._inner(rngs, wrong.device), inner)
        deepest = torch.tensor([form == "deepest" for form in forms], device=wrong.device) & ~right
        cells = self._cells(regions, inner, deepest, rngs)
        n, (x, y, z) = torch.arange(len(cells), device=cells.device), cells.T
        return cells.cpu(), targets[n, x, y, z].long().cpu()

    def within(self, regions: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """See :meth:`OneByOne.within`."""
        inner = self._inner(rngs, regions.device)
        return self._cells(regions, inner, torch.zeros_like(inner), rngs).cpu()

    @staticmethod
    def _inner(rngs: Sequence[np.random.Generator], device: torch.device) -> Tensor:
        return torch.tensor([rng.random() < INNER_SHARE for rng in rngs], device=device)

    @staticmethod
    def _cells(regions: Tensor, inner: Tensor, deepest: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """(N, 3): any cell of each region, of its inner part, or its deepest one."""
        depth = squared_depth(regions).flatten(1)
        most = depth.amax(1, keepdim=True)
        # More than half as deep as at the deepest point, in squares.
        least = torch.where(deepest[:, None], most - 0.5, torch.where(inner[:, None], most / 4, 0))
        places = nth_true(depth > least, torch.tensor([rng.random() for rng in rngs], device=depth.device))
        return torch.stack(torch.unravel_index(places, regions.shape[1:]), dim=1)


def squared_depth(regions: Tensor) -> Tensor:
    """The squared distance, in cells, from every cell of each region to the nearest one outside.

    As scipy's exact distance transform; what lies beyond the grid is outside. The minimum over paraboloids is taken
    one axis after the other, over all cells of a row (Felzenszwalb and Huttenlocher 2012, without the envelope, which
    a GPU does not need).

    Args:
        regions: (N, d, h, w) bool.

    Returns:
        (N, d, h, w) float32, 0 outside.
    """
    far = float(sum(n * n for n in regions.shape[1:]))
    at_once = max(1, AT_ONCE // (regions[0].numel() * max(regions.shape[1:])))
    return torch.cat([_squared_depth(part, far) for part in regions.split(at_once)])


def _squared_depth(regions: Tensor, far: float) -> Tensor:
    depth = torch.where(regions, far, 0.0)
    for axis in (1, 2, 3):
        size = regions.shape[axis]
        i = torch.arange(size, device=regions.device, dtype=torch.float32)
        rows = depth.movedim(axis, -1)
        rows = (rows[..., None, :] + (i[:, None] - i) ** 2).amin(-1)
        border = torch.minimum(i + 1, size - i) ** 2
        depth = torch.minimum(rows, border).movedim(-1, axis)
    return depth * regions


def nth_true(masks: Tensor, shares: Tensor) -> Tensor:
    """(N,) the place of the true value that lies at each share, from 0 to 1, of the true values of (N, places)."""
    counts = masks.cumsum(1, dtype=torch.int32)
    wanted = (shares * counts[:, -1]).floor().clamp(max=counts[:, -1] - 1)
    return (counts > wanted[:, None]).byte().argmax(1)


def _each(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(condition.view(-1, *(1,) * (yes.dim() - 1)), yes, no)
