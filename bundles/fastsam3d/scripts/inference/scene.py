# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A volume in memory, and the objects that are asked for in it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..common.geometry import Grid
from ..common.prompts import ObjectPrompt


class Scene(NamedTuple):
    """What one call works on.

    Attributes:
        image: (1, X, Y, Z).
        grid: where its voxels lie.
        prompts: one for each object.
        masks: (X, Y, Z) uint8 label map of each scribble, lasso or previous mask, by the name that the prompts give it.
        notes: what was done to the image when it was read.
        content: a key of the image's voxels, different for any others.
        reused: whether the volume was in memory already.
    """

    image: Tensor
    grid: Grid
    prompts: list[ObjectPrompt]
    masks: dict[str, Tensor]
    notes: list[str]
    content: str
    reused: bool
