# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What a weight does to its input, for the layers that can be adapted: a linear map or a convolution.

A weight is seen as a matrix of (out, in), for a convolution (out, in * kernel). A factor of it with few rows is then
the same kind of layer with few outputs, and a factor with few columns mixes those outputs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn import grad as nn_grad

CONVOLVE = {2: F.conv2d, 3: F.conv3d}
INPUT_GRADIENT = {2: nn_grad.conv2d_input, 3: nn_grad.conv3d_input}


@dataclass(frozen=True)
class LinearOperator:
    """Acts on the last dimension of (..., in)."""

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """(..., in) -> (..., rows of ``weight``)."""
        return F.linear(x, weight, bias)

    def mix(self, x: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
        """A matrix (out, channels) over the channels."""
        # Flat, since torch makes a slow product for each row of tokens where these do not lie one after another.
        return F.linear(x.reshape(-1, x.shape[-1]), matrix, bias).reshape(*x.shape[:-1], -1)

    def input_gradient(self, gradient: Tensor, weight: Tensor, shape: Sequence[int]) -> Tensor:
        """The gradient of ``apply`` for an input of this shape."""
        return F.linear(gradient, weight.t())

    def per_channel(self, vector: Tensor) -> Tensor:
        """(channels,), so that it broadcasts over what ``apply`` gives."""
        return vector

    def sum_per_channel(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """(..., channels) -> (channels,)."""
        return x.reshape(-1, x.shape[-1]).sum(0, dtype=dtype)

    def first_channels(self, x: Tensor, count: int) -> Tensor:
        """A view of the first channels."""
        return x[..., :count]

    def layer(self, weight: Tensor, bias: nn.Parameter | None) -> nn.Module:
        """A frozen plain layer of this weight."""
        return filled(nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta"), weight, bias)


@dataclass(frozen=True)
class ConvOperator:
    """A convolution in two or three dimensions, on (B, in, *space)."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def dimensions(self) -> int:
        """Of space: 2 or 3."""
        return len(self.stride)

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, in, *space) -> (B, rows of ``weight``, *space')."""
        return CONVOLVE[self.dimensions](x, weight, bias, self.stride, self.padding, self.dilation)

    def mix(self, x: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
        """A matrix (out, channels) over the channels."""
        return CONVOLVE[self.dimensions](x, self.per_channel(matrix), bias)

    def input_gradient(self, gradient: Tensor, weight: Tensor, shape: Sequence[int]) -> Tensor:
        """The gradient of ``apply`` for an input of this shape."""
        convolution_input = INPUT_GRADIENT[self.dimensions]
        return convolution_input(shape, weight, gradient, self.stride, self.padding, self.dilation)

    def per_channel(self, vector: Tensor) -> Tensor:
        """(..., channels), so that it broadcasts over what ``apply`` gives."""
        return vector.reshape(*vector.shape, *(1,) * self.dimensions)

    def sum_per_channel(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """(B, channels, *space) -> (channels,)."""
        return x.sum((0, *range(2, x.ndim)), dtype=dtype)

    def first_channels(self, x: Tensor, count: int) -> Tensor:
        """A view of the first channels."""
        return x[:, :count]

    def layer(self, weight: Tensor, bias: nn.Parameter | None) -> nn.Module:
        """A frozen plain layer of this weight."""
        outputs, inputs, *kernel = weight.shape
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[self.dimensions]
        settings = (self.stride, self.padding, self.dilation)
        return filled(convolution(inputs, outputs, tuple(kernel), *settings, bias=False, device="meta"), weight, bias)


Operator = LinearOperator | ConvOperator


def filled(layer: nn.Module, weight: Tensor, bias: nn.Parameter | None) -> nn.Module:
    """The layer with this weight, frozen, and this very bias."""
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.bias = bias
    return layer


def operator_of(layer: nn.Module) -> Operator:
    """What the layer does with its weight.

    Raises:
        ValueError: another layer than Linear, Conv2d or Conv3d, or a convolution with groups, with padding by name or
            with padding by other values than zeros.
    """
    # Exact types: who uses a subclass may reach for its weight, as MultiheadAttention does.
    if type(layer) is nn.Linear:
        return LinearOperator()
    if type(layer) not in (nn.Conv2d, nn.Conv3d):
        raise ValueError(f"got a {type(layer).__name__}; only Linear, Conv2d and Conv3d can be adapted, target those")
    if layer.groups != 1:
        raise ValueError(f"got a convolution with groups={layer.groups}; only groups=1 can be adapted, leave it out")
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ValueError(
            f"got a convolution with padding={layer.padding!r}, padding_mode={layer.padding_mode!r}; "
            "expected numbers and 'zeros', write the padding so"
        )
    return ConvOperator(layer.stride, layer.padding, layer.dilation)
