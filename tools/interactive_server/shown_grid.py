# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The grid that the page shows: the stored voxels, axes turned so that they lead to the patient's right, front and top.

A voxel of the page is a voxel of the file: axes change places and directions, nothing is interpolated. Only the server
knows both; the browser counts along the page's axes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

Box = list[list[int]]


class ShownGrid(NamedTuple):
    """How the page's axes lie in the stored grid.

    Attributes:
        axes: for each stored axis, the axis of the page that it becomes.
        flipped: for each stored axis, whether the page counts against it.
        stored: the shape as stored.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    stored: tuple[int, int, int]

    @classmethod
    def of(cls, affine: np.ndarray, shape: Sequence[int]) -> ShownGrid:
        """Of a volume with ``affine``, (4, 4) voxel -> mm in RAS, and ``shape``."""
        turned = nib.orientations.io_orientation(affine)
        axes = tuple(int(axis) for axis in turned[:, 0])
        return cls(axes, tuple(bool(way < 0) for way in turned[:, 1]), tuple(int(n) for n in shape))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the page's grid."""
        return tuple(self._turn(self.stored))

    def show(self, values: np.ndarray) -> np.ndarray:
        """(X, Y, Z) as stored -> a view of it as the page has it."""
        back = np.argsort(self.axes)
        return values[tuple(slice(None, None, -1 if f else 1) for f in self.flipped)].transpose(back)

    def store(self, values: np.ndarray) -> np.ndarray:
        """The other way: a view as stored of what the page has."""
        return values.transpose(self.axes)[tuple(slice(None, None, -1 if f else 1) for f in self.flipped)]

    def stored_voxel(self, voxel: Sequence[float]) -> list[float]:
        """Of a voxel of the page."""
        sides = zip(self.axes, self.flipped, self.stored, strict=True)
        return [n - 1 - voxel[axis] if flipped else voxel[axis] for axis, flipped, n in sides]

    def shown_voxel(self, voxel: Sequence[float]) -> list[float]:
        """Of a stored voxel."""
        sides = zip(voxel, self.flipped, self.stored, strict=True)
        return self._turn([n - 1 - x if flipped else x for x, flipped, n in sides])

    def stored_box(self, box: Sequence[Sequence[int]]) -> Box:
        """Of a half-open box of the page."""
        sides = zip(self.axes, self.flipped, self.stored, strict=True)
        return [_side(box[axis], flipped, n) for axis, flipped, n in sides]

    def shown_box(self, box: Sequence[Sequence[int]]) -> Box:
        """Of a half-open stored box."""
        return self._turn([_side(*side) for side in zip(box, self.flipped, self.stored, strict=True)])

    def _turn(self, of_stored: Sequence[Any]) -> list[Any]:
        return [of_stored[i] for i in np.argsort(self.axes)]


def _side(side: Sequence[int], flipped: bool, n: int) -> list[int]:
    low, high = side
    return [n - high, n - low] if flipped else [low, high]
