# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What the image encoder gives to the mask decoder."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Embedding(NamedTuple):
    """The embedding of one image, computed once and used for every click on it.

    Attributes:
        features: (B, C, d, h, w).
        image_size: voxels of the image along its three axes.
        skips: finer feature maps (B, c, k d, k h, k w), coarse to fine; empty where the encoder has none. From
            ``FastSAM3D.encode`` on, what the decoder makes of them.
        code: (1, C, d, h, w) positional code of the cells; computed when needed if it is None.
        detail: (B, 1 + c, 4d, 4h, 4w) the image and the encoder's finest feature map, for the refiner.
    """

    features: Tensor
    image_size: tuple[int, int, int]
    skips: tuple[Tensor, ...] = ()
    code: Tensor | None = None
    detail: Tensor | None = None
