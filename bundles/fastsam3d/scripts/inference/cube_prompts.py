# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The prompts of an object that lie in a cube, in the cube's own coordinates."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..common.geometry import Grid, resample
from ..networks.drawing import LARGEST_LOGIT
from .decoding import CubePrompt
from .scene import Scene
from .search import Look, Stage, View
from .target import Target


def cube_prompt(scene: Scene, target: Target, look: Look, cells: Grid, last: View | None) -> CubePrompt:
    """The target's prompts in the cube of ``look``.

    A mask sums up the clicks before it, which are shown at once; the others are replayed as they came. Those outside
    the cube are left to other cubes.

    Args:
        scene: the volume.
        target: the object.
        look: the cube, and how many clicks to show.
        cells: of the logits, over the same space as the cube.
        last: the last look at the object, whose mask is shown; None for what was given.
    """
    cube, device = look.cube, scene.image.device
    places = target.clicks_mm[: look.clicks]
    inside = np.flatnonzero(cube.holds(places))
    places = places[inside]
    known = 1 if last is None else last.look.clicks
    # What nobody said need not be followed.
    given = [i for i in np.argsort(target.order[inside]) if target.order[inside[i]] >= 0]
    box = None
    if target.box_mm is not None:
        corners = cube.to_voxels(target.box_mm)
        box = np.clip([corners.min(axis=0), corners.max(axis=0)], -0.5, np.array(cube.shape) - 0.5)
        box = torch.as_tensor(box, dtype=torch.float32, device=device)
    return CubePrompt(
        torch.as_tensor(cube.to_voxels(places), dtype=torch.float32, device=device),
        torch.as_tensor(target.labels[inside], device=device),
        box,
        _given_logits(scene, target, cells) if last is None else _last_logits(last, cells),
        max(1, int((inside < known).sum())),
        torch.as_tensor(cells.to_voxels(places), dtype=torch.float32, device=device),
        torch.as_tensor(given, dtype=torch.long, device=device),
        last is None and target.has_mask,
        look.stage is Stage.AROUND,
    )


def _last_logits(last: View, cells: Grid) -> Tensor:
    """(1, *cells.shape): those of the last look."""
    logits, inside = resample(last.logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT), last.grid, cells)
    return torch.where(inside, logits, -LARGEST_LOGIT)


def _given_logits(scene: Scene, target: Target, cells: Grid) -> Tensor | None:
    """(1, *cells.shape): of the user's last mask, None where there is none."""
    if not target.has_mask:
        return None
    mask = (scene.masks[target.prompt.previous_mask] > 0).float()
    return (2 * resample(mask[None], scene.grid, cells)[0] - 1) * LARGEST_LOGIT
