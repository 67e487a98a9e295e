# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Voxels turned into the order that torch computes in, several times as fast as numpy turns them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import ImageReader

# Turned as numbers of the same size: what they mean does not matter, and torch knows neither all types nor byte orders.
SAME_SIZE = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}
# Of the volume at a time, so that a large one needs no third copy.
BYTES = 1 << 26


class RowOrder(ImageReader):
    """A reader whose voxels have their last axis innermost, as MONAI will want them next.

    Files have the first axis innermost. MONAI leaves it to numpy to turn a volume around, which goes voxel by voxel.

    Args:
        reader: that reads the file.
    """

    def __init__(self, reader: ImageReader) -> None:
        self.reader = reader

    def verify_suffix(self, filename: Any) -> bool:
        """As the reader."""
        return self.reader.verify_suffix(filename)

    def read(self, data: Any, **kwargs: Any) -> Sequence[Any] | Any:
        """As the reader."""
        return self.reader.read(data, **kwargs)

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        """The reader's voxels and meta data."""
        voxels, meta = self.reader.get_data(img)
        return in_rows(voxels), meta


def in_rows(volume: np.ndarray) -> np.ndarray:
    """The same (X, Y, Z) array with Z innermost in memory; an array that has not X innermost is left as it is."""
    turns = volume.ndim == 3 and volume.flags.f_contiguous and not volume.flags.c_contiguous
    if not turns or volume.dtype.kind not in "biuf" or volume.dtype.itemsize not in SAME_SIZE:
        return volume
    slices = volume.T.view(SAME_SIZE[volume.dtype.itemsize])
    turned = torch.from_numpy(np.empty(volume.shape, slices.dtype))
    step = max(1, BYTES // slices[:, 0].nbytes)
    for start in range(0, volume.shape[1], step):
        # A copy, since torch warns of arrays that must not be written to.
        part = torch.from_numpy(np.array(slices[:, start : start + step]))
        # A transposed matrix is what torch makes quickly; then whole rows along Z are moved.
        columns = part.flatten(1).t().contiguous().view(*part.shape[1:], len(part))
        turned[:, start : start + step] = columns.transpose(0, 1)
    return turned.numpy().view(volume.dtype)
