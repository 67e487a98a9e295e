# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Scores of a mask: MONAI's overlap and surface metrics, which are defined here for empty masks too."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics import compute_dice, compute_iou
from monai.metrics.utils import get_edge_surface_distance
from torch import Tensor

METRICS = ("dice", "iou", "nsd", "hd95")


def mask_scores(
    prediction: Tensor | np.ndarray, truth: Tensor | np.ndarray, spacing: Sequence[float], tolerance: float = 2.0
) -> dict[str, float]:
    """Overlap and distance of two masks on one grid, in 2D or 3D.

    An empty prediction has the worst values there are: 0 of every overlap, and of ``hd95`` the diagonal of the image,
    which no distance in it can exceed. No value is ever NaN or infinite. A surface is the voxels of a mask that have
    a face on what is outside it; the border of the image counts as outside.

    Args:
        prediction: bool, (X, Y) or (X, Y, Z).
        truth: bool, of the same shape, with at least one true voxel.
        spacing: mm between neighbouring voxels along each axis (1 for pixels).
        tolerance: mm by which a surface may be off to count as right in ``nsd``.

    Returns:
        ``dice`` and ``iou`` of the masks, ``nsd``, the Dice of their surfaces at the tolerance, and ``hd95``, the
        larger of the two directed 95th percentiles of the distances between them, in mm.

    Raises:
        ValueError: shapes that differ, a spacing of another length or not positive, a truth without a voxel (there is
            no overlap with what is not there: see :func:`false_positive`).
    """
    prediction, truth = _masks(prediction, truth, spacing)
    if not truth.any():
        raise ValueError("the truth has no voxel: expected a mask with some; what was predicted is false_positive's")
    if not prediction.any():
        return {"dice": 0.0, "iou": 0.0, "nsd": 0.0, "hd95": diagonal(truth.shape, spacing)}
    box = _box(prediction | truth)
    prediction, truth = prediction[box], truth[box]
    # What MONAI's compute_surface_dice and compute_hausdorff_distance are made of: most of the time goes into these
    # distances, so that both from one pair of them cost half.
    with warnings.catch_warnings():
        # MONAI warns of an argument that it gives to itself.
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy.*")
        steps = [float(s) for s in spacing]
        _, distances, _ = get_edge_surface_distance(prediction, truth, spacing=steps, symmetric=True)
    pair = prediction[None, None], truth[None, None]
    return {
        "dice": float(compute_dice(*pair)),
        "iou": float(compute_iou(*pair)),
        "nsd": float((torch.cat(distances) <= tolerance).double().mean()),
        "hd95": max(float(np.percentile(d.numpy(), 95)) for d in distances),
    }


def false_positive(prediction: Tensor | np.ndarray, spacing: Sequence[float]) -> dict[str, float]:
    """How much was predicted for a label that is absent: ``predicted_voxels``, and ``predicted_size`` in mm2 or mm3."""
    voxels = int(torch.as_tensor(prediction).count_nonzero())
    return {"predicted_voxels": voxels, "predicted_size": voxels * math.prod(float(s) for s in spacing)}


def diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """mm between the centres of the two corner voxels of an image that lie farthest apart."""
    return math.hypot(*((n - 1) * float(s) for n, s in zip(shape, spacing, strict=True)))


def _masks(prediction: Tensor | np.ndarray, truth: Tensor | np.ndarray, spacing: Sequence[float]) -> list[Tensor]:
    masks = [torch.as_tensor(m).cpu().bool() for m in (prediction, truth)]
    shapes = [tuple(m.shape) for m in masks]
    if shapes[0] != shapes[1] or len(shapes[0]) not in (2, 3):
        raise ValueError(f"prediction of shape {shapes[0]}, truth of {shapes[1]}: expected one shape in 2D or 3D")
    if len(spacing) != len(shapes[0]) or not all(math.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(f"spacing {list(spacing)}: expected {len(shapes[0])} positive numbers, one for each axis")
    return masks


def _box(mask: Tensor) -> tuple[slice, ...]:
    """The box of the true voxels, one voxel larger on each side: scores depend on nothing outside it."""
    box = []
    for axis, size in enumerate(mask.shape):
        used = mask.movedim(axis, 0).flatten(1).any(dim=1).nonzero().flatten()
        box.append(slice(max(0, int(used[0]) - 1), min(size, int(used[-1]) + 2)))
    return tuple(box)
