# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""SAM's positions, which were learned for one grid of tokens, on another grid.

Computed in double precision: adapters are bound to the base's values, which must not depend on the machine's rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def resize_absolute(positions: Tensor, grid: Sequence[int]) -> Tensor:
    """(1, h, w, C) -> (1, *grid, C): averaged where the grid shrinks, as S-SAM does; interpolated where it grows."""
    wide = positions.double().permute(0, 3, 1, 2)
    averaged = F.adaptive_avg_pool2d(wide, [min(a, b) for a, b in zip(wide.shape[2:], grid, strict=True)])
    if list(averaged.shape[2:]) != list(grid):
        averaged = F.interpolate(averaged, list(grid), mode="bilinear", align_corners=False)
    return averaged.permute(0, 2, 3, 1).to(positions.dtype).contiguous()


def resize_relative(positions: Tensor, length: int) -> Tensor:
    """(2n - 1, C), one for each offset of two tokens along an axis -> (length, C), linearly, as SAM does."""
    wide = positions.double().t()[None]
    return F.interpolate(wide, length, mode="linear", align_corners=False)[0].t().to(positions.dtype).contiguous()
