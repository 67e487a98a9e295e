# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""One object on its way from prompts to a mask: where it is looked for, and what each cube showed of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..common.geometry import Grid, resample
from ..common.prompts import ObjectPrompt
from ..networks.drawing import LARGEST_LOGIT
from . import cubes
from .decoding import CubePrompt
from .scene import Scene
from .scribbles import scribble_points

logger = logging.getLogger(__name__)


@dataclass
class View:
    """What the network saw of an object in one cube.

    Attributes:
        cube: the voxels that the encoder was given.
        grid: the cells of the logits, over the same space.
        logits: (1, *grid.shape).
        inside: (*grid.shape) bool, where the image is.
        score: predicted IoU.
        clicks: how many of the object's clicks the logits know of, the first ones.
        ignored: how many of them the network did not follow, see :func:`.honoured.honoured`.
    """

    cube: Grid
    grid: Grid
    logits: Tensor
    inside: Tensor
    score: float
    clicks: int = 0
    ignored: int = 0

    # Both are asked for many times in a request.
    @cached_property
    def mask(self) -> Tensor:
        """(*grid.shape) bool."""
        return self.logits[0] > 0

    @cached_property
    def bounds(self) -> tuple[list[int], list[int]] | None:
        """Start and stop cells of the box around the mask, stop excluded; None where the mask is empty."""
        return cubes.extent(self.mask) if bool(self.mask.any()) else None


@dataclass
class Target:
    """An object, its first cube, and what was seen of it so far.

    Attributes:
        prompt: of the object.
        center_mm, spacing: of the first cube.
        views: that make up the mask, the finest first and the coarsest last.
        looks: every cube that was looked at, in that order, and why.
        notes: for whoever asked.
    """

    prompt: ObjectPrompt
    center_mm: np.ndarray
    spacing: float
    views: list[View] = field(default_factory=list)
    looks: list[tuple[Grid, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def known(self) -> int:
        """How many clicks the last mask sums up, or, where there is none, the first step shows."""
        if self.views:
            return self.views[-1].clicks
        return len(self.prompt.points) if self.prompt.previous_mask or self.prompt.scribble else 1


def place(scene: Scene, prompt: ObjectPrompt, cube_size: int, default: float, takes_boxes: bool) -> Target:
    """Decide where a prompt's first cube lies.

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
    extents = []
    if prompt.box:
        extents.append(cubes.box_corners_mm(prompt.box, scene.grid))
    if prompt.previous_mask:
        extents.append(cubes.extent_mm(scene.masks[prompt.previous_mask] > 0, scene.grid))
    clicks = scene.grid.to_mm(np.array(prompt.foreground).reshape(-1, 3))
    if extents:
        shown = np.concatenate([*extents, clicks])
        center = (shown.min(axis=0) + shown.max(axis=0)) / 2
        spacing = cubes.spacing_for(shown, center, cube_size, default)
        spacing = max(spacing, cubes.finest_spacing(scene.grid, default))
    else:
        center = clicks[0]
        first = cubes.first_spacing(scene.grid, cube_size, default)
        # A click beyond the cube is left to coarser ones: what the others found at this spacing must not be lost.
        near = clicks[np.abs(clicks - center).max(axis=1) <= first * cube_size / 2]
        spacing = max(first, cubes.spacing_for(near, center, cube_size, default))
    if prompt.box and not takes_boxes:
        prompt = prompt.with_points([np.mean(np.array(prompt.box), axis=0)], [1])
        notes.append("these weights know no boxes: the box was taken as a click at its centre")
        logger.warning("%s: %s", prompt.name, notes[-1])
    return Target(prompt, center, spacing, notes=notes)


def share_cubes(targets: list[Target], cube_size: int) -> list[list[Target]]:
    """Objects in groups that are looked at in the cube of the group's first: of one spacing, in its inner half."""
    groups: list[list[Target]] = []
    for target in targets:
        for group in groups:
            reach = cube_size * group[0].spacing / 4
            near = np.abs(target.center_mm - group[0].center_mm).max() <= reach
            if near and target.spacing == group[0].spacing:
                group.append(target)
                break
        else:
            groups.append([target])
    return groups


def cube_prompt(
    scene: Scene, target: Target, cube: Grid, low: Grid, takes_boxes: bool, clicks: int | None = None
) -> CubePrompt:
    """The target's prompts in a cube whose logits lie on ``low``.

    A mask sums up the clicks before it, which are shown at once; the others are replayed as they came. Those outside
    the cube are left to other cubes.

    Args:
        scene: the volume.
        target: the object, with the views of it so far.
        cube: what the encoder was given.
        low: the cells of its logits.
        takes_boxes: whether the network's weights know boxes.
        clicks: how many to show, the first ones; all by default.
    """
    prompt = target.prompt
    places = scene.grid.to_mm(np.array(prompt.points).reshape(-1, 3))
    points, inside = cube.to_voxels(places), cube.holds(places)
    labels = np.array(prompt.labels, dtype=np.int64)
    # The network was never shown a background click first.
    order = np.argsort(np.arange(len(labels)) != np.argmax(labels == 1), kind="stable") if len(labels) else []
    within = [i for i in order[:clicks] if inside[i]]
    at_once = len(set(within) & set(order[: target.known]))
    box = None
    if prompt.box and takes_boxes:
        corners = cube.to_voxels(cubes.box_corners_mm(prompt.box, scene.grid))
        box = np.clip([corners.min(axis=0), corners.max(axis=0)], -0.5, np.array(cube.shape) - 0.5)
        box = torch.as_tensor(box, dtype=torch.float32, device=scene.image.device)
    return CubePrompt(
        torch.as_tensor(points[within], dtype=torch.float32, device=scene.image.device),
        torch.as_tensor(labels[within], device=scene.image.device),
        box,
        _last_logits(scene, target, low),
        max(1, at_once),
        torch.as_tensor(low.to_voxels(places)[within], dtype=torch.float32, device=scene.image.device),
    )


def _last_logits(scene: Scene, target: Target, low: Grid) -> Tensor | None:
    """(1, *low.shape): the newest view's logits, or else the user's masks."""
    if target.views:
        view = target.views[-1]
        logits, inside = resample(view.logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT), view.grid, low)
        return torch.where(inside, logits, -LARGEST_LOGIT)
    logits = None
    if target.prompt.previous_mask:
        mask = (scene.masks[target.prompt.previous_mask] > 0).float()
        logits = (2 * resample(mask[None], scene.grid, low)[0] - 1) * LARGEST_LOGIT
    if target.prompt.scribble:
        strokes = scene.masks[target.prompt.scribble]
        drawn, _ = resample(torch.stack([strokes == 1, strokes == 2]).float(), scene.grid, low)
        stroke = (drawn[:1] - drawn[1:]) * LARGEST_LOGIT
        logits = stroke if logits is None else torch.where(stroke != 0, stroke, logits)
    return logits
