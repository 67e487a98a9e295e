# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""How much of a mask a click may change: a right click must not flood the body, nor wipe out the object.

Shown many clicks on one object the network marks more and more of the image. A click far from the mask says that much
is missing: a change that is small beside the mask is taken as it is; of a larger one only what lies right at the
click, no farther from it than the object is large. A click near the mask says that little is missing. Measured on
organs that the weights had not seen: docs/notebook/prompts.md.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

# A change of this share of the mask is small.
SMALL = 0.75
# A click is near the mask, in radii of a ball as large as the mask.
NEAR = 0.2
# How far a change may reach from the click if it is large or the click is near: in those radii, in distances of the
# click from the mask, and in cells at least.
REACH, REACH_OF_DISTANCE, LEAST_REACH = 1.0, 3.0, 3.0
# Around a finer cube it may reach farther: a mask that fills the cube can then fill the next one.
REACH_AROUND = 1.5


def corrected_at(last: Tensor, found: Tensor, place: Tensor, foreground: bool) -> Tensor:
    """``last``, and of what ``found`` adds to it (by a background click: takes away) no more than may be right.

    Of a large change, and of one by a click near the mask, only the piece at the click stays. It is connected to the
    click by what changes, and ends where it is too far away. Where the last mask is empty there is no such end.

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
    from_mask = float(np.sqrt(squares[mask.cpu().numpy()].min())) if foreground and size else np.inf
    if int(changed.sum()) <= SMALL * size and from_mask >= NEAR * _radius(size):
        return either
    seeds = np.zeros(part.shape, dtype=bool)
    low = np.clip(np.floor(point).astype(int), 0, np.array(part.shape) - 1)
    seeds[tuple(slice(i, i + 2) for i in low)] = True
    if size:
        part &= squares <= max(LEAST_REACH, min(REACH * _radius(size), REACH_OF_DISTANCE * from_mask)) ** 2
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
    if not size or int((positive & ~mask).sum()) <= SMALL * size:
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
