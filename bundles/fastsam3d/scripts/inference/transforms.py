# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""From requests to a volume that carries its prompts, and from the inferer's mask to its summary."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import MapTransform

from ..common.prompts import read_prompts, to_json
from ..volumes import read_mask


class ReadPromptsd(MapTransform):
    """Checks the prompts of a request or configuration and puts them into ``image.meta``.

    The inferer is called with the image alone, by ``monai.bundle`` as by MONAI Label: prompts travel with it.
    ``meta["prompts"]`` is JSON (see :func:`..common.prompts.to_json`), ``meta["prompt_masks"]`` a uint8 tensor
    (files, X, Y, Z) with every scribble and previous mask, in the order in which the prompts name them.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            image = d[key]
            prompts = read_prompts(d, tuple(image.shape[1:]))
            image.meta["prompts"] = to_json(prompts)
            files = [f for p in prompts for f in (p.scribble, p.previous_mask) if f]
            if files:
                image.meta["prompt_masks"] = torch.stack([read_mask(f, image) for f in files])
        return d


class Summarised(MapTransform):
    """Turns the summary that the inferer left in ``pred.meta`` into ``data["result"]``, which clients receive."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d["result"] = {**(d.get("result") or {}), **json.loads(d[key].meta["summary"])}
        return d
