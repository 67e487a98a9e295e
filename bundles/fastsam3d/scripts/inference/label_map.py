# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The masks of the cubes, resampled to the image's own grid and put together as one label map."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..common.geometry import CORNERS, Grid, overlap, resample
from ..networks.drawing import LARGEST_LOGIT
from .search import View
from .zoom import extent

# A logit that is still positive.
LEAST = 1e-3


def label_map(
    objects: Sequence[Sequence[View]],
    image: Grid,
    device: torch.device,
    given: Sequence[Tensor | None] | None = None,
) -> Tensor:
    """(X, Y, Z) uint8, or uint16 for more than 255 objects: 0, and 1, 2, ... in the order of the objects.

    Where objects overlap the one with the larger logit wins.

    Args:
        objects: the views that make up each object's mask, the finest first and the coarsest last.
        image: the grid of the map.
        device: where the logits lie.
        given: (X, Y, Z) bool, the last mask of each object that had one: it stays where the logits did not change.
    """
    given = [None] * len(objects) if given is None else [None if m is None else m.permute(2, 1, 0) for m in given]
    dtype = torch.uint8 if len(objects) < 256 else torch.int32
    # The first axis innermost, as image files have it: whoever writes the map need not turn all of it around.
    image = image.reversed()
    labels = _zeros(image.shape, dtype, device)
    # A single object competes with nobody: no second volume is needed to tell who won.
    best = _zeros(image.shape, torch.float32, device) if len(objects) > 1 else None
    for value, (views, mask) in enumerate(zip(objects, given, strict=True), start=1):
        found = _region(views, image, mask)
        if found is None:
            continue
        box, region = found
        logits = _changed(views, region, device, None if mask is None else mask[box])
        won = logits > (0 if best is None else best[box])
        if value == 1:
            labels[box] = won
        else:
            # Later values are larger ones: taking the maximum is filling, without a branch for each voxel.
            torch.maximum(labels[box], won.to(labels.dtype) * value, out=labels[box])
        if best is not None:
            torch.maximum(best[box], logits, out=best[box])
    labels = labels.permute(2, 1, 0)
    return labels if labels.dtype == torch.uint8 else labels.to(torch.uint16)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros; on a CPU memory that the system hands out as zeros, which costs nothing where no object is."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    if not hasattr(mmap, "MAP_PRIVATE"):
        return torch.from_numpy(np.zeros(shape, str(dtype).removeprefix("torch.")))
    # numpy would ask for large pages. Each is filled with zeros at once, even where the object needs a few lines of it.
    memory = mmap.mmap(-1, math.prod(shape) * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(memory, dtype=dtype).view(shape)


def object_logits(views: Sequence[View], image: Grid, device: torch.device, given: Tensor | None = None) -> Tensor:
    """(X, Y, Z) float32: the logits of one object on the whole of ``image``, very low where it was not looked for."""
    return _changed(views, image, device, given)


def count_voxels(
    labels: Tensor, objects: Sequence[Sequence[View]], image: Grid, given: Sequence[Tensor | None] = ()
) -> list[int]:
    """How many voxels of a label map (X, Y, Z) each label has, 0 included; looked for only where an object can be."""
    # In the order in which they lie in memory, see ``label_map``.
    masks = [m.permute(2, 1, 0) for m in given if m is not None]
    region = _region([v for views in objects for v in views], image.reversed(), *masks)
    box = (slice(0),) * 3 if region is None else region[0]
    found = labels.permute(2, 1, 0)[box].flatten().int()
    voxels = torch.bincount(found, minlength=len(objects) + 1).tolist()
    return [labels.numel() - sum(voxels[1:]), *voxels[1:]]


def occupied(
    objects: Sequence[Sequence[View]], image: Grid, given: Sequence[Tensor | None] = ()
) -> tuple[slice, slice, slice] | None:
    """The box of voxels outside of which a label map of the objects, see :func:`label_map`, is 0; None where all is."""
    masks = [m.permute(2, 1, 0) for m in given if m is not None]
    found = _region([v for views in objects for v in views], image.reversed(), *masks)
    return None if found is None else found[0][::-1]


def _region(views: Sequence[View], image: Grid, *masks: Tensor | None) -> tuple[tuple[slice, ...], Grid] | None:
    """The box of image voxels outside of which no view and no mask is positive, None where nothing is."""
    bounds = [overlap(image, _positive_part(v)) for v in views if v.bounds]
    bounds += [extent(m) for m in masks if m is not None and bool(m.any())]
    if not bounds:
        return None
    start, stop = np.min([b[0] for b in bounds], axis=0), np.max([b[1] for b in bounds], axis=0)
    return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True)), image.crop(start, stop)


def _positive_part(view: View) -> Grid:
    """The cells around a positive one: between two cells the logits are interpolated."""
    start, stop = view.bounds
    return view.grid.crop([n - 1 for n in start], [n + 1 for n in stop])


def _changed(views: Sequence[View], region: Grid, device: torch.device, mask: Tensor | None) -> Tensor:
    """(X, Y, Z) logits on ``region``, with the sign of the last ``mask`` (X, Y, Z) where its own logits did not change.

    Cells are coarser than voxels: what nobody corrected must not be rounded to cells.
    """
    logits = _merge(views, region, device)
    before = [replace(v, logits=v.given) for v in views if v.given is not None]
    if mask is None or not before:
        return logits
    same = (logits > 0) == (_merge(before, region, device) > 0)
    sure = logits.abs().clamp(min=LEAST)
    return torch.where(same, torch.where(mask, sure, -sure), logits)


def _merge(views: Sequence[View], region: Grid, device: torch.device) -> Tensor:
    """(X, Y, Z) logits on ``region``: each view overwrites what coarser ones said of its cube, all but its border.

    A click right on the border of a cube counts as outside, and is answered by the coarser one.
    """
    logits = None
    for view in reversed(views):
        rim = 0 if view is views[-1] else 1
        grid = view.grid.crop([rim] * 3, [n - rim for n in view.grid.shape])
        start, stop = overlap(region, grid)
        part = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        # A thick slice gets what its middle says: a mean would mix it with what lies beside it.
        seen = view.logits[(slice(None), *(slice(rim, n - rim) for n in view.grid.shape))]
        values, inside = resample(seen, grid, region.crop(start, stop), average=False)
        if inside.shape == region.shape and _covers(grid, region):
            # As with most objects: nothing of any other view is left to be seen.
            logits = values[0]
            continue
        if logits is None:
            logits = torch.full(region.shape, -LARGEST_LOGIT, device=device)
        logits[part] = torch.where(inside, values[0], logits[part])
    return logits


def _covers(outer: Grid, inner: Grid) -> bool:
    """Whether the centres of all voxels of ``inner`` lie in ``outer``: where its corner voxels do, all others do."""
    corners = outer.to_voxels(inner.to_mm(CORNERS * (np.array(inner.shape) - 1)))
    return bool(((corners >= -0.5) & (corners <= np.array(outer.shape) - 0.5)).all())
