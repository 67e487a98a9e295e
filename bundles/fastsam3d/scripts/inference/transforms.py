# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""From requests to a volume that carries its prompts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import MapTransform

from ..common.prompts import read_prompts, to_json
from ..common.viewer_prompts import from_viewer, stroke_values
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
            request = from_viewer(d, image.shape[1:])
            prompts = read_prompts(request, tuple(image.shape[1:]))
            image.meta["prompts"] = to_json(prompts)
            masks = []
            for prompt in prompts:
                if prompt.scribble:
                    masks.append(_strokes(read_mask(prompt.scribble, image), stroke_values(request)))
                if prompt.previous_mask:
                    masks.append(read_mask(prompt.previous_mask, image))
            if masks:
                image.meta["prompt_masks"] = torch.stack(masks)
        return d


def _strokes(drawn: torch.Tensor, values: Mapping[int, int]) -> torch.Tensor:
    """``drawn`` with its values as ours, 0 where they are none; as it is where ``values`` is empty."""
    if not values:
        return drawn
    return sum((torch.where(drawn == theirs, ours, 0) for theirs, ours in values.items())).to(drawn.dtype)
