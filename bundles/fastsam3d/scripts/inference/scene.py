# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A volume and its prompts, unpacked from the one tensor in which they travel."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from ..common.bounded_cache import digest
from ..common.geometry import Grid
from ..common.prompts import ObjectPrompt, from_json


class Scene(NamedTuple):
    """What one call of the inferer works on.

    Attributes:
        image: (1, X, Y, Z).
        grid: where its voxels lie.
        prompts: one for each object.
        masks: (X, Y, Z) uint8 label map of each scribble or previous mask, by its file.
        notes: what was done to the image when it was read.
        content: tells the image's voxels from any other's.
        reused: whether the volume was in memory already.
    """

    image: Tensor
    grid: Grid
    prompts: list[ObjectPrompt]
    masks: dict[str, Tensor]
    notes: list[str]
    content: str
    reused: bool


def unpack(inputs: MetaTensor) -> Scene:
    """(1, 1, X, Y, Z) with the meta that ``ReadPromptsd`` wrote, collated into a batch or not, -> scene.

    Raises:
        ValueError: more than one image or channel, or no prompts in the meta.
    """
    if inputs.ndim != 5 or tuple(inputs.shape[:2]) != (1, 1):
        raise ValueError(f"inputs of shape {tuple(inputs.shape)}: expected one image of one channel, (1, 1, X, Y, Z)")
    meta = inputs.meta
    if "prompts" not in meta:
        raise ValueError("the image carries no prompts: expected ReadPromptsd in the preprocessing")
    image = inputs.as_tensor()[0]
    shape = tuple(image.shape[1:])
    affine = np.asarray(torch.as_tensor(meta["affine"]).cpu(), dtype=np.float64).reshape(-1, 4, 4)[0]
    prompts = from_json(_single(meta["prompts"]))
    files = [f for p in prompts for f in (p.scribble, p.previous_mask) if f]
    stacked = torch.as_tensor(meta["prompt_masks"]).reshape(-1, *shape).to(image.device) if files else []
    masks = dict(zip(files, stacked, strict=True))
    notes = json.loads(_single(meta.get("notes", "[]")))
    content = _single(meta["content"]) if "content" in meta else digest(image)
    reused = bool(torch.as_tensor(meta.get("reused", False)).any())
    return Scene(image, Grid(affine, shape), prompts, masks, notes, content, reused)


def _single(text: Any) -> str:
    """Collation makes a list of one of every text."""
    return text if isinstance(text, str) else text[0]
