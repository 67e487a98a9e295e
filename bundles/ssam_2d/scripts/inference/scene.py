# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""An image, or the slices of a volume, in memory, and what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..common.planes import Plane
from ..common.prompts import ObjectPrompt


@dataclass
class Scene:
    """What one call of the inferer works on.

    Attributes:
        slices: (n, C, H, W), 0 to 255; one channel for volumes, three for 2D images, of which there is one.
        stored: the shape of the stored file: (W, H, 1) or (X, Y, Z).
        plane: how a volume is seen, None for a 2D image.
        spacing: mm between columns, rows and slices, 0 where the file does not say.
        voxel_mm3: size of a voxel, 0 for a 2D image.
        labels: the names asked for; None where none are named.
        objects: those that clicks or boxes are given for, in stored indices.
        adapter: the adapter asked for.
        notes: what was done to the image when it was read.
    """

    slices: Tensor
    stored: tuple[int, int, int]
    plane: Plane | None
    spacing: tuple[float, float, float]
    voxel_mm3: float
    labels: list[str] | None
    objects: list[ObjectPrompt]
    adapter: Any
    notes: list[str]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a slice."""
        return tuple(self.slices.shape[2:])

    def picture(self, index: int) -> Tensor:
        """(3, H, W) of one slice."""
        return self.slices[index].expand(3, -1, -1)

    def place(self, point: tuple[float, float, float]) -> tuple[float, float, float]:
        """Stored indices -> column, row and slice."""
        return self.plane.point(point, self.stored) if self.plane else point

    def box(self, corners: tuple) -> tuple[int, int, tuple[float, float, float, float]]:
        """A stored box -> its first and last slice, and in each of them first column and row, last column and row."""
        one, other = (self.place(corner) for corner in corners)
        left, top, first = (min(a, b) for a, b in zip(one, other, strict=True))
        right, bottom, last = (max(a, b) for a, b in zip(one, other, strict=True))
        return round(first), round(last), (left, top, right, bottom)

    def as_stored(self, values: Tensor) -> Tensor:
        """(K, n, H, W) -> (K, H, W) for a 2D image, (K, X, Y, Z) for a volume."""
        if self.plane is None:
            return values[:, 0]
        return torch.stack([self.plane.volume(v) for v in values])
