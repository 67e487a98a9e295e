# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.
"""The order in which the tokens of a 3D grid stand in their sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from .constants import constant


def morton_order(grid: tuple[int, int, int], device: torch.device | str | None = None) -> Tensor:
    """Raster index of each token in Z-order, in which neighbours in the sequence are neighbours in space.

    `x[:, order]` is the Morton sequence of raster tokens x, and `y[:, order.argsort()]` undoes it. On a cubic grid
    of 2^m tokens a side every segment of 8^k tokens is a cube of 2^k a side.

    Args:
        grid: numbers of tokens along the three axes, the last one running fastest in raster order; any sizes.
        device: where the result lives.

    Returns:
        int64 (tokens,), kept in a cache: do not change it in place.

    Raises:
        ValueError: grid is not three positive numbers.
    """
    sizes = tuple(int(size) for size in grid)
    if len(sizes) != 3 or min(sizes) < 1:
        raise ValueError(f"grid is {tuple(grid)}, expected three numbers from 1 up: tokens along each axis.")
    return _morton_order(sizes, torch.device("cpu" if device is None else device))


@constant
def _morton_order(sizes: tuple[int, int, int], device: torch.device) -> Tensor:
    bits = (max(sizes) - 1).bit_length()
    code = torch.zeros((1, 1, 1), dtype=torch.int64, device=device)
    for axis, size in enumerate(sizes):
        place = torch.arange(size, device=device)
        # Bit b of this axis goes to bit 3 b (+ 2, 1 or 0), so that the three axes take turns.
        spread = sum(((place >> bit) & 1) << (3 * bit + 2 - axis) for bit in range(bits)) + torch.zeros_like(place)
        code = code + spread.reshape([-1 if other == axis else 1 for other in range(3)])
    return code.flatten().argsort()
