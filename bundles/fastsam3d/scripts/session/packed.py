# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Masks, and differences between two label maps, in a few kilobytes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def slices(box: Sequence[Sequence[int]]) -> tuple[slice, ...]:
    """A half-open box as an index."""
    return tuple(slice(low, high) for low, high in box)


def extent(values: np.ndarray) -> Box | None:
    """The half-open box around all that is not zero in (X, Y, Z); None where all is."""
    box = []
    for axis in range(3):
        found = np.flatnonzero(values.any(axis=tuple(a for a in range(3) if a != axis)))
        if not len(found):
            return None
        box.append((int(found[0]), int(found[-1]) + 1))
    return tuple(box)


@dataclass(frozen=True)
class PackedMask:
    """A mask, as the compressed bits of the box around it.

    Attributes:
        shape: of the whole volume.
        box: half open.
        bits: of the voxels in the box, the last axis changing fastest, compressed by zlib.
    """

    shape: tuple[int, int, int]
    box: Box
    bits: bytes

    @classmethod
    def of(cls, mask: np.ndarray, shape: tuple[int, int, int], start: Sequence[int] = (0, 0, 0)) -> PackedMask:
        """Of a bool mask with something inside, whose first voxel is ``start`` of the volume of ``shape``."""
        tight = extent(mask)
        box = tuple((low + s, high + s) for (low, high), s in zip(tight, start, strict=True))
        return cls(shape, box, zlib.compress(np.packbits(mask[slices(tight)]).tobytes(), 1))

    def inside(self) -> np.ndarray:
        """Bool, the voxels of the box."""
        size = [high - low for low, high in self.box]
        bits = np.frombuffer(zlib.decompress(self.bits), np.uint8)
        return np.unpackbits(bits, count=int(np.prod(size))).reshape(size).astype(bool)

    def draw(self, values: np.ndarray, value: int) -> None:
        """Set ``values`` (X, Y, Z) to ``value`` inside the mask."""
        values[slices(self.box)][self.inside()] = value

    def whole(self) -> np.ndarray:
        """(X, Y, Z) bool."""
        mask = np.zeros(self.shape, bool)
        mask[slices(self.box)] = self.inside()
        return mask


@dataclass(frozen=True)
class Difference:
    """What is to be changed of one label map to have another, and the other way round.

    Attributes:
        box: half open, around all voxels that differ.
        bits: exclusive or of the two in the box, compressed by zlib.
    """

    box: Box
    bits: bytes

    @classmethod
    def between(cls, before: np.ndarray, after: np.ndarray, start: Sequence[int]) -> Difference | None:
        """Of two uint8 label maps of one box, whose first voxel is ``start``; None where they are the same."""
        changed = before ^ after
        tight = extent(changed)
        if tight is None:
            return None
        box = tuple((low + s, high + s) for (low, high), s in zip(tight, start, strict=True))
        return cls(box, zlib.compress(np.ascontiguousarray(changed[slices(tight)]).tobytes(), 1))

    def apply(self, labels: np.ndarray) -> None:
        """Make the one of the other, in place."""
        part = labels[slices(self.box)]
        part ^= np.frombuffer(zlib.decompress(self.bits), np.uint8).reshape(part.shape)
