# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What a weight does to its input, for the layers that can be adapted: linear maps, convolutions, transposed ones.

A weight W is seen as a matrix of (its first dimension, everything else). With W = U V, where U has few columns and V
few rows, the layer takes its input inward, to as many hidden channels, and outward from there. In a linear map and in
a convolution V takes it inward, as the same kind of layer with few outputs, and U mixes those. A transposed
convolution is the adjoint of a convolution, and so is the way through it: U mixes first, V is then transposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn import grad as nn_grad

ADAPTABLE = (nn.Linear, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLVE = {2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {2: F.conv_transpose2d, 3: F.conv_transpose3d}
INPUT_GRADIENT = {2: nn_grad.conv2d_input, 3: nn_grad.conv3d_input}


@dataclass(frozen=True)
class LinearOperator:
    """Acts on the last dimension of (..., in)."""

    def whole(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """(..., in) -> (..., out), by the weight itself."""
        return F.linear(x, weight, bias)

    def inward(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """(..., in) -> (..., hidden)."""
        return F.linear(x, v)

    def outward(self, hidden: Tensor, u: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """(..., hidden) -> (..., out)."""
        return self._mix(hidden, u, bias)

    def outward_adjoint(self, gradient: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """The gradient of the hidden channels from that of the output."""
        return self._mix(gradient, u.t())

    def inward_adjoint(self, gradient: Tensor, u: Tensor, v: Tensor, shape: Sequence[int]) -> Tensor:
        """The gradient of an input of this shape from that of the hidden channels."""
        return F.linear(gradient, v.t())

    def per_channel(self, vector: Tensor) -> Tensor:
        """(channels,), so that it broadcasts over hidden channels."""
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

    def _mix(self, x: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
        # Flat, since torch makes a slow product for each row of tokens where these do not lie one after another.
        return F.linear(x.reshape(-1, x.shape[-1]), matrix, bias).reshape(*x.shape[:-1], -1)


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

    def whole(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, in, *space) -> (B, out, *space'), by the weight itself."""
        return CONVOLVE[self.dimensions](x, weight, bias, self.stride, self.padding, self.dilation)

    def inward(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """(B, in, *space) -> (B, hidden, *space')."""
        return self.whole(x, v)

    def outward(self, hidden: Tensor, u: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, hidden, *space') -> (B, out, *space')."""
        return self._mix(hidden, u, bias)

    def outward_adjoint(self, gradient: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """The gradient of the hidden channels from that of the output."""
        return self._mix(gradient, u.t())

    def inward_adjoint(self, gradient: Tensor, u: Tensor, v: Tensor, shape: Sequence[int]) -> Tensor:
        """The gradient of an input of this shape from that of the hidden channels."""
        convolution_input = INPUT_GRADIENT[self.dimensions]
        return convolution_input(shape, v, gradient, self.stride, self.padding, self.dilation)

    def _mix(self, x: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
        """A matrix (channels', channels) over the channels, alike everywhere."""
        return CONVOLVE[self.dimensions](x, self.per_channel(matrix), bias)

    def per_channel(self, vector: Tensor) -> Tensor:
        """(..., channels), so that it broadcasts over hidden channels."""
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


@dataclass(frozen=True)
class TransposedOperator(ConvOperator):
    """A transposed convolution: the adjoint of the convolution with the same weight (in, out, *kernel)."""

    output_padding: tuple[int, ...]

    def whole(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, in, *space) -> (B, out, *space'), by the weight itself."""
        settings = (self.stride, self.padding, self.output_padding, 1, self.dilation)
        return TRANSPOSED[self.dimensions](x, weight, bias, *settings)

    def inward(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """(B, in, *space) -> (B, hidden, *space)."""
        return self._mix(x, u.t())

    def outward(self, hidden: Tensor, u: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, hidden, *space) -> (B, out, *space')."""
        return self.whole(hidden, v, bias)

    def outward_adjoint(self, gradient: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """The gradient of the hidden channels from that of the output."""
        return super().whole(gradient, v)

    def inward_adjoint(self, gradient: Tensor, u: Tensor, v: Tensor, shape: Sequence[int]) -> Tensor:
        """The gradient of an input of this shape from that of the hidden channels."""
        return self._mix(gradient, u)

    def layer(self, weight: Tensor, bias: nn.Parameter | None) -> nn.Module:
        """A frozen plain layer of this weight."""
        inputs, outputs, *kernel = weight.shape
        convolution = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[self.dimensions]
        settings = (self.stride, self.padding, self.output_padding, 1, False, self.dilation)
        return filled(convolution(inputs, outputs, tuple(kernel), *settings, device="meta"), weight, bias)


@dataclass(frozen=True)
class GroupedOperator(ConvOperator):
    """A convolution of which each output sees one group of the inputs, a depthwise one where the groups are channels.

    All outputs share the rows of V, so that the way through the factors would compute each row for every group. The
    weight is small and its gradient too: it is made from the factors, and taken whole.
    """

    groups: int

    def whole(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, in, *space) -> (B, out, *space'), by the weight itself."""
        return CONVOLVE[self.dimensions](x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def layer(self, weight: Tensor, bias: nn.Parameter | None) -> nn.Module:
        """A frozen plain layer of this weight."""
        outputs, inputs, *kernel = weight.shape
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[self.dimensions]
        settings = (tuple(kernel), self.stride, self.padding, self.dilation, self.groups, False)
        return filled(convolution(inputs * self.groups, outputs, *settings, device="meta"), weight, bias)


Operator = LinearOperator | ConvOperator


def filled(layer: nn.Module, weight: Tensor, bias: nn.Parameter | None) -> nn.Module:
    """The layer with this weight, frozen, and this very bias."""
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.bias = bias
    return layer


def operator_of(layer: nn.Module) -> Operator:
    """What the layer does with its weight.

    Raises:
        ValueError: none of ADAPTABLE, a transposed convolution with groups, or a convolution with padding by name or by
            other values than zeros.
    """
    # Exact types: who uses a subclass may reach for its weight, as MultiheadAttention does.
    if type(layer) not in ADAPTABLE:
        kinds = ", ".join(kind.__name__ for kind in ADAPTABLE)
        raise ValueError(f"got a {type(layer).__name__}; only these can be adapted, target those: {kinds}")
    if type(layer) is nn.Linear:
        return LinearOperator()
    if layer.groups != 1 and layer.transposed:
        raise ValueError(
            f"got a transposed convolution with groups={layer.groups}; only groups=1 can be adapted, leave it out"
        )
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ValueError(
            f"got a convolution with padding={layer.padding!r}, padding_mode={layer.padding_mode!r}; "
            "expected numbers and 'zeros', write the padding so"
        )
    settings = (layer.stride, layer.padding, layer.dilation)
    if layer.groups != 1:
        return GroupedOperator(*settings, layer.groups)
    return TransposedOperator(*settings, layer.output_padding) if layer.transposed else ConvOperator(*settings)
