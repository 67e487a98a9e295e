# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The probability of every label of an image, on the image's own pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn
from torch.nn import functional as F

from ..images import normalise, to_network_size


class WholeImageInferer(Inferer):
    """Shows the network the image at its own size and brings the probabilities back, as inference does.

    Args:
        labels: the names to look for, each one of the network's.
        image_size: pixels a side of what the network is shown.
    """

    def __init__(self, labels: Sequence[str], image_size: int = 256) -> None:
        self.labels, self.image_size = list(labels), image_size

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """(B, 3, H, W) of 0 to 255 -> probabilities (B, L, H, W)."""
        images = torch.as_tensor(inputs)
        squares = torch.stack([normalise(to_network_size(image, self.image_size)) for image in images])
        features = network.label_features[[network.labels.index(name) for name in self.labels]]
        logits, _ = network.decode(network.encode(squares), features)
        return F.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=False).sigmoid()


def masks_of(probability: Tensor, threshold: float, overlaps: bool) -> Tensor:
    """(L, H, W) probabilities -> bool masks; without overlaps a pixel belongs to its most probable label alone."""
    masks = probability > threshold
    if not overlaps:
        highest = torch.zeros_like(masks).scatter_(0, probability.argmax(0, keepdim=True), True)
        masks = masks & highest
    return masks
