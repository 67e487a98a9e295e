# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""One object to look for: its prompts in mm, and the cube in which it is looked at first."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..common.clicks import deepest_point
from ..common.geometry import Grid, cube_around
from ..common.prompts import ObjectPrompt
from . import zoom
from .drawn import lasso_points, scribble_points
from .scene import Scene

logger = logging.getLogger(__name__)
# Of a mask, in which its deepest point is looked for.
MOST_VOXELS = 500_000


@dataclass(frozen=True)
class Target:
    """An object to look for.

    Attributes:
        prompt: as it was given, with the points of its strokes and outlines.
        clicks_mm: (P, 3) in the order in which the network is shown them.
        labels: (P,) of these clicks, 1 foreground, 0 background.
        order: (P,) their places in the order in which they were given; -1 for one that nobody gave.
        box_mm: (8, 3) the corners of the box, None where there is none or the weights know no boxes.
        cube: in which it is looked at first.
        notes: for the user.
    """

    prompt: ObjectPrompt
    clicks_mm: np.ndarray
    labels: np.ndarray
    order: np.ndarray
    box_mm: np.ndarray | None
    cube: Grid
    notes: tuple[str, ...] = ()

    @property
    def has_mask(self) -> bool:
        """Whether there is a last mask, from which the clicks go on: what they leave alone of it stays."""
        return self.prompt.previous_mask is not None

    @property
    def foreground_mm(self) -> np.ndarray:
        """(F, 3) the clicks on the object."""
        return self.clicks_mm[self.labels == 1]


def place(scene: Scene, prompt: ObjectPrompt, cube_size: int, default: float, takes_boxes: bool) -> Target:
    """Bring a prompt to mm, and decide where its first cube lies.

    A box or a last mask tells the object's size, and its cube is as fine as they allow; clicks alone get the default
    spacing, a finer one where the whole image is small, or a coarser one that shows with context those in that cube.

    Args:
        scene: the volume.
        prompt: of one object.
        cube_size: voxels a side.
        default: mm between the cube's voxels where nothing else is known and the image fills the cube.
        takes_boxes: whether the network's weights know boxes; a box becomes a click at its centre otherwise.

    Raises:
        ValueError: a scribble or a lasso without foreground, and nothing else that says where the object is.
    """
    notes = []
    if prompt.scribble:
        prompt = prompt.with_points(*scribble_points(scene.masks[prompt.scribble], scene.grid))
    if prompt.lasso:
        prompt = prompt.with_points(*lasso_points(scene.masks[prompt.lasso], scene.grid))
    if not (prompt.foreground or prompt.box or prompt.previous_mask):
        raise ValueError(f"{' and '.join(prompt.masks)}: no voxel is 1; expected 1 on the object, 2 on the background")
    box = prompt.box
    if box and not takes_boxes:
        prompt, box = prompt.with_points([np.mean(np.array(box), axis=0)], [1]), None
        notes.append("these weights know no boxes: the box was taken as a click at its centre")
        logger.warning("%s: %s", prompt.name, notes[-1])
    places, labels, order = _clicks(prompt, scene.grid)
    box_mm = zoom.box_corners_mm(box, scene.grid) if box else None
    if box and (thick := zoom.thickened(box, scene.grid)) is not None:
        box_mm = zoom.box_corners_mm(thick, scene.grid)
        notes.append("the box is flat: the object was taken to be about as thick as the box is wide")
        if not (labels == 1).any():
            places, labels, order = _first(np.mean(np.array(box), axis=0), scene.grid, places, labels, order)
    extents = [] if box_mm is None else [box_mm]
    if prompt.previous_mask:
        mask = scene.masks[prompt.previous_mask] > 0
        extents.append(zoom.extent_mm(mask, scene.grid))
        if not (labels == 1).any() and len(labels):
            # The network was never shown background clicks alone.
            inner = _inner_voxel(mask, scene.grid, places)
            if inner is not None:
                places, labels, order = _first(inner, scene.grid, places, labels, order)
    clicks = places[labels == 1]
    if extents:
        shown = np.concatenate([*extents, clicks])
        center = (shown.min(axis=0) + shown.max(axis=0)) / 2
        spacing = zoom.spacing_for(shown, center, cube_size, default)
        spacing = max(spacing, zoom.finest_spacing(scene.grid, default))
    else:
        center = clicks[0]
        first = zoom.first_spacing(scene.grid, cube_size, default)
        # A click beyond the cube is left to coarser ones: what the others found at this spacing must not be lost.
        near = clicks[np.abs(clicks - center).max(axis=1) <= first * cube_size / 2]
        spacing = max(first, zoom.spacing_for(near, center, cube_size, default))
    cube = cube_around(center, spacing, cube_size)
    return Target(prompt, places, labels, order, box_mm, cube, tuple(notes))


def last_mask(scene: Scene, target: Target) -> Tensor | None:
    """(X, Y, Z) bool: the object's last mask with what was clicked since in the clicked voxels; None without one."""
    if not target.has_mask:
        return None
    mask = scene.masks[target.prompt.previous_mask] > 0
    for point, label in zip(target.prompt.points, target.prompt.labels, strict=True):
        voxel = np.clip(np.round(point).astype(int), 0, np.array(mask.shape) - 1)
        mask[tuple(voxel)] = bool(label)
    return mask


def _clicks(prompt: ObjectPrompt, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clicks in mm as they are shown, their labels, and their places in the order in which they were given.

    Of several on the same voxel the last one counts, unless nothing would then say where the object is.
    """
    points, labels = np.array(prompt.points).reshape(-1, 3), np.array(prompt.labels, dtype=np.int64)
    last: dict[tuple[float, ...], int] = {}
    for i, voxel in enumerate(map(tuple, points.round().tolist())):
        # Said again it says nothing new, and keeps its place.
        if voxel not in last or labels[last[voxel]] != labels[i]:
            last[voxel] = i
    kept = np.array(sorted(last.values()), dtype=np.int64)
    if not (labels[kept] == 1).any():
        kept = np.arange(len(labels))
    if len(kept):
        # The network was never shown a background click first.
        first = int(np.argmax(labels[kept] == 1))
        kept = np.concatenate([kept[first : first + 1], np.delete(kept, first)])
    return grid.to_mm(points[kept]), labels[kept], kept


def _first(
    voxel: np.ndarray, grid: Grid, places: np.ndarray, labels: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The clicks, and before them one on the object that nobody gave."""
    return np.concatenate([grid.to_mm(voxel)[None], places]), np.append(1, labels), np.append(-1, order)


def _inner_voxel(mask: Tensor, grid: Grid, away_from_mm: np.ndarray) -> np.ndarray | None:
    """(3,) a voxel deep inside a mask (X, Y, Z) and away from some places; None where there is none."""
    start, stop = zoom.extent(mask)
    # Some hundred thousand voxels tell as much of a large object as all of them.
    step = max(1, int(np.ceil((np.prod(np.array(stop) - start) / MOST_VOXELS) ** (1 / 3))))
    part = tuple(slice(a, b, step) for a, b in zip(start, stop, strict=True))
    inner = mask[part].cpu().numpy().copy()
    avoided = ((grid.to_voxels(away_from_mm) - start) / step).round().astype(int)
    for voxel in avoided[((avoided >= 0) & (avoided < inner.shape)).all(axis=1)]:
        inner[tuple(voxel)] = False
    return np.array(deepest_point(inner, grid.spacing)) * step + start if inner.any() else None


def shared_cubes(cubes: Sequence[Grid]) -> list[Grid]:
    """For each cube the one that is looked at in its place: the earliest of its spacing that has it in its inner half.

    Objects that lie close together are looked at in one cube, encoded once.
    """
    kept: list[Grid] = []
    for cube in cubes:
        reach = cube.shape[0] * cube.spacing[0] / 4
        near = (
            k for k in kept if k.spacing[0] == cube.spacing[0] and np.abs(k.center_mm - cube.center_mm).max() <= reach
        )
        kept.append(next(near, cube))
    return kept
