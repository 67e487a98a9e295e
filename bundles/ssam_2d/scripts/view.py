# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""How a picture is shown to a network, and how its answers come back onto the picture's own pixels."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor
from torch.nn import functional as F

from .images import SAM_MEAN, SAM_STD, normalise, to_network_size

VIEWS = ("stretch", "sam", "medsam")


class View:
    """One of the ways in which SAMs were trained to see:

    - ``stretch``: the picture's sides stretched to a square, SAM's normalisation; S-SAM's and this project's own bases.
    - ``sam``: the longer side to the square's, zeros at the right and at the bottom after SAM's normalisation; SAM and
      MobileSAM.
    - ``medsam``: the same with intensities from 0, the picture's lowest, to 1, its highest; LiteMedSAM.

    Args:
        how: the name.
        size: pixels a side of the square.

    Raises:
        ValueError: another name.
    """

    def __init__(self, how: str = "stretch", size: int = 256) -> None:
        if how not in VIEWS:
            raise ValueError(f"view {how!r}: expected one of {', '.join(VIEWS)}")
        self.how, self.size = how, size

    def sides(self, shape: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of the square that a picture of (H, W) takes up."""
        if self.how == "stretch":
            return self.size, self.size
        height, width = (max(1, int(side * self.size / max(shape) + 0.5)) for side in shape)
        return height, width

    def scale(self, shape: Sequence[int]) -> tuple[float, float]:
        """Pixels of the square for one column and for one row of a picture of (H, W)."""
        (height, width), (rows, columns) = self.sides(shape), shape
        return width / columns, height / rows

    def square(self, picture: Tensor) -> Tensor:
        """(3, H, W) of 0 to 255 -> (3, size, size) of 0 to 255, for :meth:`normalised`."""
        height, width = self.sides(picture.shape[1:])
        if self.how == "stretch":
            return to_network_size(picture, self.size)
        shown = to_network_size(picture, (height, width))
        if self.how == "medsam":
            low, high = shown.aminmax()
            shown = (shown - low) * (255 / (high - low).clamp(min=1e-6))
        filling = SAM_MEAN if self.how == "sam" else (0.0, 0.0, 0.0)
        square = shown.new_tensor(filling)[:, None, None].repeat(1, self.size, self.size)
        square[:, :height, :width] = shown
        return square

    def normalised(self, square: Tensor) -> Tensor:
        """(..., 3, size, size) of 0 to 255 -> what the network takes."""
        return square / 255 if self.how == "medsam" else normalise(square)

    def displayed(self, image: Tensor) -> Tensor:
        """What :meth:`normalised` took, 0 to 255, from what it gave."""
        if self.how == "medsam":
            return image * 255
        mean, std = (image.new_tensor(v)[:, None, None] for v in (SAM_MEAN, SAM_STD))
        return image * std + mean

    def __call__(self, picture: Tensor) -> Tensor:
        """(3, H, W) of 0 to 255 -> (3, size, size), what the network takes."""
        return self.normalised(self.square(picture))

    def back(self, logits: Tensor, shape: Sequence[int]) -> Tensor:
        """(B, K, h, w) of the square -> (B, K, H, W) of the picture."""
        if self.how != "stretch":
            height, width = self.sides(shape)
            if tuple(logits.shape[2:]) != (self.size, self.size):
                logits = F.interpolate(logits, (self.size, self.size), mode="bilinear", align_corners=False)
            logits = logits[..., :height, :width]
        return F.interpolate(logits, tuple(shape), mode="bilinear", align_corners=False)


class ToSquared(MapTransform):
    """Pictures (3, H, W), and their masks (L, H, W) by nearest pixels, as the network sees them, not yet normalised.

    Args:
        keys: of the picture, and of its mask where it has one.
        view: see :class:`View`.
    """

    def __init__(self, keys: KeysCollection = ("image", "label"), view: View | None = None) -> None:
        super().__init__(keys)
        self.view = view or View()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        picture, *masks = self.keys
        shape = d[picture].shape[1:]
        d[picture] = self.view.square(torch.as_tensor(d[picture]))
        height, width = self.view.sides(shape)
        for key in masks:
            mask = torch.as_tensor(d[key])
            near = F.interpolate(mask[None].float(), (height, width), mode="nearest")[0].to(mask.dtype)
            d[key] = F.pad(near, (0, self.view.size - width, 0, self.view.size - height))
        return d


class Normalised(MapTransform):
    """(3, size, size) of 0 to 255 -> what the network takes.

    Args:
        keys: of the pictures.
        view: see :class:`View`.
    """

    def __init__(self, keys: KeysCollection = "image", view: View | None = None) -> None:
        super().__init__(keys)
        self.view = view or View()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.view.normalised(d[key])
        return d
