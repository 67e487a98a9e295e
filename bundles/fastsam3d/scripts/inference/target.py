# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""One object to look for: its prompts in mm, and the cube in which it is looked at first."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..common.geometry import Grid, cube_around
from ..common.prompts import ObjectPrompt
from . import zoom
from .scene import Scene
from .scribbles import scribble_points

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """An object to look for.

    Attributes:
        prompt: as it was given, with the points of its strokes.
        clicks_mm: (P, 3) in the order in which the network is shown them.
        labels: (P,) of these clicks, 1 foreground, 0 background.
        box_mm: (8, 3) the corners of the box, None where there is none or the weights know no boxes.
        cube: in which it is looked at first.
        at_first: how many clicks the first step shows.
        notes: for whoever asked.
    """

    prompt: ObjectPrompt
    clicks_mm: np.ndarray
    labels: np.ndarray
    box_mm: np.ndarray | None
    cube: Grid
    at_first: int
    notes: tuple[str, ...] = ()

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
        ValueError: a scribble without foreground.
    """
    notes = []
    if prompt.scribble:
        prompt = prompt.with_points(*scribble_points(scene.masks[prompt.scribble], scene.grid))
        if not prompt.foreground:
            raise ValueError(f"{prompt.scribble}: no voxel is 1; expected 1 on the object, 2 on the background")
    box_mm = zoom.box_corners_mm(prompt.box, scene.grid) if prompt.box else None
    extents = [] if box_mm is None else [box_mm]
    if prompt.previous_mask:
        extents.append(zoom.extent_mm(scene.masks[prompt.previous_mask] > 0, scene.grid))
    clicks = scene.grid.to_mm(np.array(prompt.foreground).reshape(-1, 3))
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
    if prompt.box and not takes_boxes:
        prompt, box_mm = prompt.with_points([np.mean(np.array(prompt.box), axis=0)], [1]), None
        notes.append("these weights know no boxes: the box was taken as a click at its centre")
        logger.warning("%s: %s", prompt.name, notes[-1])
    places, labels = scene.grid.to_mm(np.array(prompt.points).reshape(-1, 3)), np.array(prompt.labels, dtype=np.int64)
    # The network was never shown a background click first.
    order = np.argsort(np.arange(len(labels)) != np.argmax(labels == 1), kind="stable") if len(labels) else []
    places, labels = places[order], labels[order]
    # A mask sums up the clicks before it.
    at_first = len(labels) if prompt.previous_mask or prompt.scribble else 1
    return Target(prompt, places, labels, box_mm, cube_around(center, spacing, cube_size), at_first, tuple(notes))


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
