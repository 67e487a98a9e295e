# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The probability of every label of an image, on the image's own pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn

from ..view import View


class WholeImageInferer(Inferer):
    """Shows the network the image at its own size and brings the probabilities back, as inference does.

    Args:
        labels: the names to look for, each one of the network's.
        view: how the network sees a picture.
    """

    def __init__(self, labels: Sequence[str], view: View | None = None) -> None:
        self.labels, self.view = list(labels), view or View()

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """(B, 3, H, W) of 0 to 255 -> probabilities (B, L, H, W)."""
        images = torch.as_tensor(inputs)
        squares = torch.stack([self.view(image) for image in images])
        features = network.label_features[[network.labels.index(name) for name in self.labels]]
        logits, _ = network.decode(network.encode(squares), features)
        return self.view.back(logits, images.shape[2:]).sigmoid()


def masks_of(probability: Tensor, threshold: float, overlaps: bool) -> Tensor:
    """(L, H, W) probabilities -> bool masks; without overlaps a pixel belongs to its most probable label alone."""
    masks = probability > threshold
    if not overlaps:
        highest = torch.zeros_like(masks).scatter_(0, probability.argmax(0, keepdim=True), True)
        masks = masks & highest
    return masks
