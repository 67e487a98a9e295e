# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A request is stored with the volume when files are read, and read back when the volume is segmented."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from ..common.bounded_cache import digest
from ..common.geometry import Grid
from ..common.prompts import check_counts, read_prompts
from ..common.request import put_request, single, take_request
from ..common.viewer_prompts import from_viewer, stroke_values
from ..volumes import read_mask
from .scene import Scene


class ReadRequestd(MapTransform):
    """Checks the prompts of a request or configuration and puts them into ``image.meta``.

    See :mod:`..common.request`. ``meta["prompt_masks"]`` is a uint8 tensor (files, X, Y, Z) with every scribble, lasso
    and previous mask, in the order in which the prompts name them.

    Args:
        keys: of the image.
        max_objects: in a request.
        max_clicks: of an object.

    Raises:
        ValueError: see :func:`..common.prompts.read_prompts` and :func:`..volumes.read_mask`; more objects or clicks.
    """

    def __init__(self, keys: KeysCollection = "image", max_objects: int = 100, max_clicks: int = 1000) -> None:
        super().__init__(keys)
        if max_objects < 1 or max_clicks < 1:
            raise ValueError(f"max_objects {max_objects}, max_clicks {max_clicks}: expected positive numbers")
        self.max_objects, self.max_clicks = max_objects, max_clicks

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            image = d[key]
            request = from_viewer(d, image.shape[1:])
            prompts = read_prompts(request, tuple(image.shape[1:]))
            check_counts(prompts, self.max_objects, self.max_clicks)
            put_request(image, prompts)
            masks = []
            for prompt in prompts:
                drawn = [read_mask(name, image) for name in prompt.masks]
                if prompt.scribble:
                    drawn[0] = _strokes(drawn[0], stroke_values(request))
                masks += drawn
            if masks:
                image.meta["prompt_masks"] = torch.stack(masks)
        return d


def unpack(inputs: MetaTensor) -> Scene:
    """(1, 1, X, Y, Z) with the meta that ``ReadRequestd`` wrote, collated into a batch or not, -> scene.

    Raises:
        ValueError: more than one image or channel, or no request in the meta.
    """
    if inputs.ndim != 5 or tuple(inputs.shape[:2]) != (1, 1):
        raise ValueError(f"inputs of shape {tuple(inputs.shape)}: expected one image of one channel, (1, 1, X, Y, Z)")
    meta = inputs.meta
    prompts = take_request(inputs)["objects"]
    image = inputs.as_tensor()[0]
    shape = tuple(image.shape[1:])
    affine = np.asarray(torch.as_tensor(meta["affine"]).cpu(), dtype=np.float64).reshape(-1, 4, 4)[0]
    files = [f for p in prompts for f in p.masks]
    stacked = torch.as_tensor(meta["prompt_masks"]).reshape(-1, *shape).to(image.device) if files else []
    masks = dict(zip(files, stacked, strict=True))
    notes = json.loads(single(meta.get("notes", "[]")))
    content = single(meta["content"]) if "content" in meta else digest(image)
    reused = bool(torch.as_tensor(meta.get("reused", False)).any())
    return Scene(image, Grid(affine, shape), prompts, masks, notes, content, reused)


def _strokes(drawn: Tensor, values: Mapping[int, int]) -> Tensor:
    """``drawn`` with its values as ours, 0 where they are none; as it is where ``values`` is empty."""
    if not values:
        return drawn
    return sum((torch.where(drawn == theirs, ours, 0) for theirs, ours in values.items())).to(drawn.dtype)
