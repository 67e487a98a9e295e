# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Labels that an image does not show. Training asks for some of them too, and expects an empty mask."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import MapTransform, Randomizable
from torch import Tensor, nn

# A value that no binary mask has.
NOT_ASKED = 255


class SampleAbsentd(MapTransform, Randomizable):
    """Marks absent labels that are not asked for: their channel of the mask (L, H, W) becomes NOT_ASKED.

    Where nothing is present and nothing sampled, one absent label is asked for.

    Args:
        keys: of the masks.
        rate: the share of absent labels that is asked for.

    Raises:
        ValueError: a rate that is no share.
    """

    def __init__(self, keys: str = "label", rate: float = 0.3) -> None:
        super().__init__(keys)
        if not 0 <= rate <= 1:
            raise ValueError(f"absent_rate {rate}: expected a share from 0 to 1")
        self.rate = rate

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """See the class."""
        sampled = dict(data)
        for key in self.key_iterator(sampled):
            mask = sampled[key]
            asked = (mask > 0).flatten(1).any(1) | torch.from_numpy(self.R.rand(len(mask)) < self.rate)
            if not asked.any():
                asked[self.R.randint(len(mask))] = True
            mask = mask.clone()
            mask[~asked] = NOT_ASKED
            sampled[key] = mask
        return sampled


class AskedBatch:
    """A batch as MONAI's trainers want it: image, mask, and which labels (B, L) the network is asked for.

    Args:
        image: the key of what the network takes.
    """

    def __init__(self, image: str = "image") -> None:
        self.image = image

    def __call__(self, batch: Mapping[str, Tensor], device: torch.device, non_blocking: bool, **kwargs: Any) -> tuple:
        """-> (image, mask, (asked,), {})."""
        image, mask = (batch[key].to(device, non_blocking=non_blocking) for key in (self.image, "label"))
        return image, mask, (mask[:, :, 0, 0] != NOT_ASKED,), {}


class AskedLoss(nn.Module):
    """A loss over the labels that are asked for, each a mask of its own.

    Args:
        loss: of logits and targets (N, 1, H, W).
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """(B, L, H, W) twice -> a scalar."""
        asked = target[:, :, 0, 0] != NOT_ASKED
        return self.loss(logits[asked][:, None], target[asked][:, None].to(logits.dtype))
