# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Which cube is looked at next for an object: functions of what was seen so far. Nothing here is changed in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..common.geometry import Grid
from . import zoom
from .target import Target

FIRST_PROMPT = "first prompt"
SMALL = "the mask is small"
BORDER = "the mask reached the border of the cube"
OUTSIDE = "a click lies outside the cube"


class Stage(Enum):
    """What a look is for."""

    # The first prompt, asked once: is the object small?
    GLIMPSE = "glimpse"
    # The first prompt in the same cube, asked as often as usual.
    FIRST = "first"
    # All clicks: in the same cube, or in a finer one that takes its place.
    CLICKS = "clicks"
    # A coarser cube, for what goes on outside.
    AROUND = "around"
    # A finer cube in the middle of an object that corrections made small.
    WITHIN = "within"


class Look(NamedTuple):
    """A cube to be shown to the network.

    Attributes:
        stage: what for.
        cube: the voxels that the encoder is given.
        clicks: how many of the object's clicks are shown, the first ones.
        rounds: how often the decoder is asked at the first step.
        why: the reason, for the user.
        anew: show the network what was given, and not the mask of the last look.
    """

    stage: Stage
    cube: Grid
    clicks: int
    rounds: int
    why: str
    anew: bool = False


@dataclass(frozen=True)
class View:
    """What the network saw of an object in one look.

    Attributes:
        look: the cube, and what was shown in it.
        grid: the cells of the logits, over the same space as the cube.
        logits: (1, *grid.shape).
        inside: (*grid.shape) bool, where the image is.
        score: predicted IoU, None where the network was not asked.
        ignored: how many of the clicks the network did not follow, see :func:`.honoured.honoured`.
        given: (1, *grid.shape) logits of the last mask that the clicks went on from, if there was one.
    """

    look: Look
    grid: Grid
    logits: Tensor
    inside: Tensor
    score: float | None
    ignored: int = 0
    given: Tensor | None = None

    # Both are asked for many times in a request.
    @cached_property
    def mask(self) -> Tensor:
        """(*grid.shape) bool."""
        return self.logits[0] > 0

    @cached_property
    def bounds(self) -> tuple[list[int], list[int]] | None:
        """Start and stop cells of the box around the mask, stop excluded; None where the mask is empty."""
        return zoom.extent(self.mask) if bool(self.mask.any()) else None


class Settings(NamedTuple):
    """How cubes are chosen.

    Attributes:
        cube_size, small_cube_size: voxels a side, usual and of a finer cube where so few show all of the image.
        spacing: mm between voxels of the usual first cube.
        rounds: how often the decoder is asked for the first prompts.
    """

    cube_size: int
    small_cube_size: int
    spacing: float
    rounds: int


def next_look(target: Target, seen: Sequence[View], image: Grid, settings: Settings) -> Look | None:
    """The cube to show next, None where enough was seen.

    The first prompt is asked once in the object's first cube. A small object is followed in a finer cube alone: a
    further click costs one step there, and none of it is lost when the wide cube says something else. Any other is
    asked again, in all rounds, and then with all clicks. Where its mask reaches the cube's border, or a click on it
    lies outside, coarser cubes follow; where corrections made it small, a finer one.

    Args:
        target: the object.
        seen: of it, in the order in which it was seen.
        image: the volume's grid.
        settings: how cubes are chosen.
    """
    count, rounds = len(target.labels), settings.rounds
    if not seen and target.has_mask:
        # The cube was chosen by the mask, which tells the object's size better than an answer.
        return Look(Stage.CLICKS, target.cube, count, rounds, FIRST_PROMPT, anew=True)
    if not seen:
        return Look(Stage.GLIMPSE, target.cube, min(count, 1), 1, FIRST_PROMPT, anew=True)
    last = seen[-1]
    stage, cube = last.look.stage, last.look.cube
    if stage in (Stage.GLIMPSE, Stage.FIRST):
        # Where the first answer asks for a much narrower cube, it need not be asked again.
        finer = _finer(target, last, image, settings, zoom.MUCH_NARROWER if stage is Stage.GLIMPSE else zoom.NARROWER)
        if finer is not None:
            return Look(Stage.CLICKS, finer, count, rounds, SMALL)
        if stage is Stage.GLIMPSE:
            return Look(Stage.FIRST, cube, last.look.clicks, rounds, FIRST_PROMPT, anew=True)
        if last.look.clicks < count:
            return Look(Stage.CLICKS, cube, count, rounds, FIRST_PROMPT, anew=True)
    if stage is Stage.WITHIN:
        return None
    if why := _too_narrow(last, target.foreground_mm):
        coarser = zoom.coarser(cube, image, settings.cube_size)
        return None if coarser is None else Look(Stage.AROUND, coarser, count, rounds, why)
    if stage is Stage.AROUND or target.has_mask:
        return None
    finer = _finer(target, last, image, settings, zoom.NARROWER)
    return None if finer is None else Look(Stage.WITHIN, finer, count, rounds, SMALL)


def making_up_the_mask(seen: Sequence[View]) -> list[View]:
    """The views whose logits make up the object's mask, the finest first and the coarsest last."""
    views: list[View] = []
    for view in seen:
        if view.look.stage is Stage.AROUND:
            views = [*views, view]
        elif view.look.stage is Stage.WITHIN:
            views = [view, *views]
        else:
            views = [view]
    return views


def cubes_looked_at(seen: Sequence[View]) -> list[Look]:
    """The looks in their order, the last one of those in the same cube."""
    looks = [view.look for view in seen]
    return [a for i, a in enumerate(looks) if not any(a.cube is b.cube for b in looks[i + 1 :])]


def _too_narrow(view: View, clicks_mm: np.ndarray) -> str | None:
    """Why a coarser cube is needed too: the mask, or clicks (N, 3) in mm on the object, go on beyond this one."""
    if zoom.touches_border(view.mask, view.inside):
        return BORDER
    return None if view.look.cube.holds(clicks_mm).all() else OUTSIDE


def _finer(target: Target, view: View, image: Grid, settings: Settings, narrower: float) -> Grid | None:
    """A narrower cube that shows the mask and all clicks on the object, None where there is none."""
    if view.bounds is None or zoom.touches_border(view.mask, view.inside):
        return None
    shown = np.concatenate([view.grid.crop(*view.bounds).corners_mm(), target.foreground_mm])
    sizes = settings.small_cube_size, settings.cube_size
    return zoom.finer(view.look.cube, shown, image, settings.spacing, sizes, narrower)
