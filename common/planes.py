# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The slices of a volume as pictures, turned as a radiologist sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from nibabel.orientations import aff2axcodes, axcodes2ornt, io_orientation, ornt_transform
from torch import Tensor

# Where the columns, the rows and the slices of each plane run to.
PLANES = {"axial": "LPS", "coronal": "LIP", "sagittal": "PIL"}


@dataclass(frozen=True)
class Plane:
    """How a stored volume (..., X, Y, Z) is seen slice by slice: axes exchanged and flipped, voxels as they are.

    Attributes:
        axes: the stored axes that run along the columns, the rows and the slices.
        flipped: whether each of these runs against its stored axis.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    @classmethod
    def of(cls, affine: np.ndarray, shape: Sequence[int], name: str | int = "auto") -> Plane:
        """The plane of a volume with this affine.

        Args:
            affine: (4, 4) of the stored volume; oblique ones are seen along their nearest axes.
            shape: voxels along the three stored axes.
            name: ``axial``, ``coronal`` or ``sagittal``; 0, 1 or 2 for slices along that stored axis, with the other
                two as stored; ``auto`` for the axis that has one slice only, seen as the plane that it is nearest to,
                and ``axial`` where there is none.

        Raises:
            ValueError: another name.
        """
        if str(name) in ("0", "1", "2"):
            along = int(name)
            columns, rows = (axis for axis in range(3) if axis != along)
            return cls((columns, rows, along), (False, False, False))
        if name == "auto":
            single = [axis for axis in range(3) if shape[axis] == 1]
            code = aff2axcodes(affine)[single[0]] if len(single) == 1 else "S"
            name = next(plane for plane, codes in PLANES.items() if codes[2] in (code, OPPOSITE[code]))
        if name not in PLANES:
            raise ValueError(f"plane {name!r}: expected auto, {', '.join(PLANES)}, or a stored axis, 0, 1 or 2")
        turn = ornt_transform(io_orientation(affine), axcodes2ornt(PLANES[name]))
        # The rows of ``turn`` are the stored axes: which axis each becomes, and in which direction.
        order = np.argsort(turn[:, 0])
        return cls(tuple(int(a) for a in order), tuple(bool(turn[a, 1] < 0) for a in order))

    def slices(self, volume: Tensor) -> Tensor:
        """(X, Y, Z) -> (slices, rows, columns), a view if torch can."""
        seen = volume.permute(self.axes[2], self.axes[1], self.axes[0])
        return seen.flip(self._flipped_dimensions()) if any(self.flipped) else seen

    def volume(self, slices: Tensor) -> Tensor:
        """(slices, rows, columns) -> (X, Y, Z): the way back."""
        stored = slices.flip(self._flipped_dimensions()) if any(self.flipped) else slices
        order = (self.axes[2], self.axes[1], self.axes[0])
        return stored.permute([order.index(axis) for axis in range(3)])

    def point(self, voxel: Sequence[float], shape: Sequence[int]) -> tuple[float, float, float]:
        """Voxel indices of the stored volume -> column, row and slice."""
        return tuple(
            shape[axis] - 1 - voxel[axis] if flipped else voxel[axis]
            for axis, flipped in zip(self.axes, self.flipped, strict=True)
        )

    def spacing(self, spacing: Sequence[float]) -> tuple[float, float, float]:
        """mm between columns, rows and slices, from those along the stored axes."""
        return tuple(float(spacing[axis]) for axis in self.axes)

    def _flipped_dimensions(self) -> list[int]:
        return [2 - i for i, flipped in enumerate(self.flipped) if flipped]


OPPOSITE = dict(zip("LRPAIS", "RLAPSI", strict=True))
