# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""How much of a mask a click may change: a right click must not flood the body, nor wipe out the object.

Shown many clicks on one object the network marks more and more of the image. A click some cells away from the mask
says that much is missing, and is believed. Of what a click right beside the mask changes, all is taken where it is
little beside the mask; of more only what lies at the click. Measured on organs: docs/notebook/prompts.md.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

# A click within so many cells of the mask is right beside it.
BESIDE = 3.0
# The share of the mask that may change as a whole, by a click beside the mask (or on it) and by one farther away.
SMALL, LARGE = 0.35, 2.0
# How far a larger change may reach from the click, in radii of a ball as large as the mask, and in cells at least.
REACH, LEAST_REACH = 0.75, 3.0
# Around a finer cube: what may be added as a whole, and how far more may reach. A mask that fills the cube can then
# fill the next one.
SMALL_AROUND, REACH_AROUND = 0.75, 1.5


def corrected_at(last: Tensor, found: Tensor, place: Tensor, foreground: bool) -> Tensor:
    """``last``, and of what ``found`` adds to it (by a background click: takes away) no more than may be right.

    Of too large a change only the piece at the click stays. It is connected to the click by what changes, and ends
    where it is too far away. Where the last mask is empty there is no such end.

    Args:
        last, found: (1, D, H, W) logits.
        place: (3,) the click among the cells, not rounded.
        foreground: whether the click is on the object.

    Returns:
        (1, D, H, W).
    """
    either = torch.maximum(found, last) if foreground else torch.minimum(found, last)
    mask, changed = last[0] > 0, (either[0] > 0) != (last[0] > 0)
    size = int(mask.sum())
    point, part = place.double().cpu().numpy(), changed.cpu().numpy()
    squares = _squared_distance(point, part.shape)
    far = foreground and (not size or squares[mask.cpu().numpy()].min() >= BESIDE**2)
    if int(changed.sum()) <= (LARGE if far else SMALL) * size:
        return either
    seeds = np.zeros(part.shape, dtype=bool)
    low = np.clip(np.floor(point).astype(int), 0, np.array(part.shape) - 1)
    seeds[tuple(slice(i, i + 2) for i in low)] = True
    if size:
        part &= squares <= max(LEAST_REACH, REACH * _radius(size)) ** 2
    return torch.where(torch.from_numpy(_connected(part, seeds & part)).to(last.device), found, last)


def grown_around(last: Tensor, found: Tensor, places: Tensor) -> Tensor:
    """``found`` without what it adds to ``last`` far from it and from clicks on the object, or apart from both.

    Args:
        last, found: (1, D, H, W) logits.
        places: (P, 3) the clicks on the object among the cells, not rounded.

    Returns:
        (1, D, H, W).
    """
    mask, positive = (last[0] > 0).cpu().numpy(), (found[0] > 0).cpu().numpy()
    size = int(mask.sum())
    if not size or int((positive & ~mask).sum()) <= SMALL_AROUND * size:
        return found
    seeds = mask.copy()
    for x, y, z in np.clip(places.round().long().cpu().numpy(), 0, np.array(mask.shape) - 1):
        seeds[x, y, z] = True
    near = ndimage.distance_transform_edt(~seeds) <= max(LEAST_REACH, REACH_AROUND * _radius(size))
    kept = _connected((positive & near) | seeds, seeds)
    return torch.where(torch.from_numpy(positive & ~kept).to(last.device), last, found)


def _radius(cells: int) -> float:
    """Of a ball of so many cells."""
    return (3 * cells / (4 * np.pi)) ** (1 / 3)


def _squared_distance(point: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Of every cell from a point (3,), in cells."""
    lines = (np.arange(n) - x for n, x in zip(shape, point, strict=True))
    return sum(line.reshape([-1 if k == axis else 1 for k in range(3)]) ** 2 for axis, line in enumerate(lines))


def _connected(cells: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The pieces of ``cells`` (by faces) with a seed in them; both (D, H, W) bool, the seeds among the cells."""
    pieces, _ = ndimage.label(cells)
    return np.isin(pieces, np.unique(pieces[seeds])) & cells
