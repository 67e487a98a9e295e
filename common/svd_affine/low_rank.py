# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Layers that add a low-rank matrix to a weight: LoRA (arXiv 2106.09685) and SALT (arXiv 2503.16055)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .layer import SVDAffine
from .operators import GroupedOperator, operator_of


class LoRA(nn.Module):
    """A linear layer or convolution with the weight W + up down, W frozen.

    Args:
        layer: see SVDAffine.
        rank: rows of ``down``, which starts random, and columns of ``up``, which starts at zero.

    Raises:
        ValueError: a layer that cannot be adapted, or a bad ``rank``.
    """

    def __init__(self, layer: nn.Module, rank: int = 4) -> None:
        super().__init__()
        self.operator = operator_of(layer)
        self.weight = layer.weight
        self.bias = layer.bias
        self.down, self.up = low_rank_pair(layer.weight, rank)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out), or (B, in, *space) -> (B, out, *space') for a convolution."""
        if isinstance(self.operator, GroupedOperator):
            return self.operator.whole(x, self.whole_weight(), self.bias)
        hidden = self.operator.inward(x, self.up, self.down)
        return self.operator.whole(x, self.weight, self.bias) + self.operator.outward(hidden, self.up, self.down)

    def whole_weight(self) -> Tensor:
        """The weight and the low-rank matrix, in the shape and dtype of W, not less exact under autocast."""
        return plus_product(self.weight, self.up, self.down)

    def merge(self) -> nn.Module:
        """The plain layer of the whole weight, frozen, with the same bias; this one is left as it is."""
        return self.operator.layer(self.whole_weight().detach(), self.bias)


class SALT(SVDAffine):
    """Scale and shift for the largest singular values, and a low-rank matrix that reaches what they do not span.

    Args:
        layer, values: see SVDAffine.
        rank: of the low-rank matrix, see LoRA.

    Raises:
        ValueError: see SVDAffine and LoRA.
    """

    def __init__(self, layer: nn.Module, values: int | float | None = 0.5, rank: int = 4) -> None:
        super().__init__(layer, values)
        self.down, self.up = low_rank_pair(layer.weight, rank)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out), or (B, in, *space) -> (B, out, *space') for a convolution."""
        if isinstance(self.operator, GroupedOperator):
            return self.operator.whole(x, self.whole_weight(), self.bias)
        hidden = self.operator.inward(x, self.up, self.down)
        return super().forward(x) + self.operator.outward(hidden, self.up, self.down)

    def whole_weight(self) -> Tensor:
        """See SVDAffine, and the low-rank matrix."""
        return plus_product(super().whole_weight(), self.up, self.down)


def low_rank_pair(weight: Tensor, rank: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Down (rank, *the weight's other dimensions), random, and up (out, rank), zero.

    Raises:
        ValueError: a rank below 1 or above that of the weight.
    """
    full = min(len(weight), weight[0].numel())
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= full:
        raise ValueError(f"rank={rank!r}: expected a whole number from 1 to {full}, the weight's own")
    down = nn.Parameter(torch.empty_like(weight[:rank], requires_grad=False))
    nn.init.kaiming_uniform_(down, a=math.sqrt(5))
    return down, nn.Parameter(weight.new_zeros(len(weight), rank))


def plus_product(weight: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """The weight plus up times down."""
    with torch.autocast(weight.device.type, enabled=False):
        return weight + (up @ down.flatten(1)).view_as(weight)
