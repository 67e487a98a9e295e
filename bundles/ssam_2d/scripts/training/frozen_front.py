# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Training of what comes after an encoder's first stages, which stay frozen: an image passes them once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor, nn

from ..common.precision import computes_bfloat16
from ..common.svd_affine import Adaptation
from ..common.training.seeded_dataset import SeededDataset
from ..networks.folded import FoldedTinyViT


class FrozenFront:
    """The first stages of a network's TinyViT, as they are now, in the form that is fastest here.

    Args:
        adaptation: of the network, see :class:`..networks.ssam.SSAM`.
        stages: how many.

    Raises:
        ValueError: more stages than there are, or something in them that is trained.
    """

    def __init__(self, adaptation: Adaptation, stages: int) -> None:
        encoder = adaptation.module.image_encoder
        if not 0 <= stages <= len(encoder.layers):
            raise ValueError(f"frozen_stages {stages}: expected 0 to {len(encoder.layers)}, the stages of the encoder")
        parts = ("image_encoder.patch_embed.", *(f"image_encoder.layers.{i}." for i in range(stages)))
        trained = [name for name in adaptation.trainable() if name.startswith(parts)]
        if trained:
            raise ValueError(
                f"frozen_stages {stages}, but {len(trained)} tensors in them are trained, such as {trained[0]}: give "
                "fewer frozen_stages, or other tuning#targets and tuning#trainable"
            )
        self.stages, self.device = stages, next(encoder.parameters()).device
        front = copy.deepcopy(encoder)
        front.layers, front.neck = front.layers[:stages], nn.Identity()
        self._encoder = FoldedTinyViT(front, torch.bfloat16 if computes_bfloat16(self.device) else torch.float32)

    def __call__(self, image: Tensor) -> Tensor:
        """(3, H, W), normalised -> (C, h, w) in half precision, on the CPU."""
        return self._encoder.begin(image.float()[None].to(self.device), self.stages)[0].half().cpu()


class Frontd(MapTransform):
    """Adds ``front``, what the frozen front of the network makes of the image.

    Args:
        keys: of the image.
        front: see :class:`FrozenFront`.
    """

    def __init__(self, keys: KeysCollection = "image", front: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__(keys)
        self.front = front

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d["front"] = self.front(torch.as_tensor(d[key]))
        return d


class KeptDraws(SeededDataset):
    """Draws that are made a few times of each item and then come again, kept in memory.

    Args:
        data, transform: see :class:`SeededDataset`.
        copies: draws of each item.

    Raises:
        ValueError: no copy.
    """

    def __init__(self, data: Sequence[Any], transform: Callable[[Any], Any], copies: int = 8) -> None:
        super().__init__(data, transform)
        if copies < 1:
            raise ValueError(f"copies {copies}: expected 1 or more")
        self.copies, self._kept = copies, {}

    def start_epoch(self, seed: int) -> None:
        """One of the copies of every item."""
        super().start_epoch(seed % self.copies)

    def transformed(self, item: Any, index: int) -> Any:
        """See :class:`SeededDataset`."""
        place = self.seed, index
        if place not in self._kept:
            self._kept[place] = super().transformed(item, index)
        return self._kept[place]


class AfterFront(nn.Module):
    """The rest of a network, from what its frozen front made of square images.

    Args:
        network: see :class:`..networks.ssam.SSAM`.
        front: its own.
        size: pixels a side of the images.
    """

    def __init__(self, network: nn.Module, front: FrozenFront, size: int) -> None:
        super().__init__()
        self.network, self.stages, self.size = network, front.stages, size

    def forward(self, front: Tensor, asked: Tensor | None = None) -> Tensor:
        """(B, C, h, w) -> logits (B, L, size, size), see :meth:`..networks.ssam.SSAM.forward`."""
        dtype = self.network.mask_decoder.iou_token.weight.dtype
        before = front.to(dtype).contiguous(memory_format=torch.channels_last)
        return self.network.find(self.network.image_encoder.finish(before, self.stages), (self.size,) * 2, asked)
