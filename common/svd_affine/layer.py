# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A layer of which only the singular values are trained (S-SAM, arXiv 2408.06447, section 2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from .operators import GroupedOperator, Operator, operator_of


class SVDAffine(nn.Module):
    """A linear layer or convolution with the weight W' = U ReLU(A * S + B) V^T, where W = U S V^T was its weight.

    A (``scale``, ones at first) and B (``shift``, zeros at first) are trained; U, S and V are buffers. The product is
    taken factor by factor, so that neither W' nor its gradient ever exist (but for convolutions with groups, whose W'
    is small); ``merge`` makes a plain layer of W'.

    The factors are unique only where the singular values differ. They are taken in double precision on the CPU, so
    that an adapter means the same wherever its base is factored again.

    Args:
        layer: one of operators.ADAPTABLE (convolutions padded by zeros, transposed ones without groups); its bias is
            used as it is, its weight is not kept.
        values: how many of the singular values are trained, the largest: a number, a fraction (a float up to 1.0), or
            None for all. The others stay as they are.

    Attributes:
        reconstruction_error: norm(U S V^T - W) / norm(W), with the factors as they are stored.

    Raises:
        ValueError: a layer that cannot be factored, a weight that is not finite, a bad ``values``, or factors that do
            not give the weight back to the precision of its dtype.
    """

    def __init__(self, layer: nn.Module, values: int | float | None = None) -> None:
        super().__init__()
        self.operator = operator_of(layer)
        weight = layer.weight.detach()
        u, s, v, self.reconstruction_error = factor(weight)
        tuned = tuned_values(values, len(s))
        self.register_buffer("U", u)
        self.register_buffer("S", s)
        self.register_buffer("V", v)
        self.scale = nn.Parameter(torch.ones_like(s[:tuned]))
        self.shift = nn.Parameter(torch.zeros_like(s[:tuned]))
        self.bias = layer.bias

    def singular_values(self) -> Tensor:
        """Those of W', in the order of the columns of U: (rank,)."""
        tuned = len(self.scale)
        changed = torch.relu(self.scale * self.S[:tuned] + self.shift)
        return changed if tuned == len(self.S) else torch.cat([changed, self.S[tuned:]])

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out), or (B, in, *space) -> (B, out, *space') for a convolution."""
        if isinstance(self.operator, GroupedOperator):
            return self.operator.whole(x, self.whole_weight(), self.bias)
        values = self.singular_values()
        return FactoredProduct.apply(x, values, self.bias, self.U, self.V, len(self.scale), self.operator)

    def regularisation(self) -> Tensor:
        """norm(1 - A) + norm(B), a scalar, which grows as the layer leaves its base."""
        return torch.linalg.vector_norm(1 - self.scale) + torch.linalg.vector_norm(self.shift)

    def whole_weight(self) -> Tensor:
        """W', in the shape and dtype of W, not less exact under autocast."""
        wide = torch.promote_types(self.U.dtype, torch.float32)
        with torch.autocast(self.U.device.type, enabled=False):
            merged = (self.U.to(wide) * self.singular_values().to(wide)) @ self.V.flatten(1).to(wide)
        return merged.reshape(-1, *self.V.shape[1:]).to(self.U.dtype)

    def merge(self) -> nn.Module:
        """The plain layer of W', frozen, with the same bias; this one is left as it is."""
        return self.operator.layer(self.whole_weight().detach(), self.bias)

    def extra_repr(self) -> str:
        """The sizes, for print(network)."""
        return f"{len(self.U)} x {self.V[0].numel()}, values={len(self.scale)} of {len(self.S)}"


class FactoredProduct(torch.autograd.Function):
    """y = U (s * (V x)) + bias, with gradients for x, s and bias alone.

    With h = V x and p = U^T g, where g is the gradient of y: the gradient of s is h * p, summed over all tokens, and
    that of x is V^T (s * p). So h is all that has to be kept: never wider than x, and x itself is not needed. (For a
    transposed convolution y = V^T (s * (U^T x)) + bias, and likewise.)
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        values: Tensor,
        bias: Tensor | None,
        u: Tensor,
        v: Tensor,
        tuned: int,
        operator: Operator,
    ) -> Tensor:
        """Only the first ``tuned`` of ``values`` get a gradient."""
        hidden = operator.inward(x, u, v)
        ctx.operator, ctx.tuned, ctx.shape, ctx.dtype = operator, tuned, x.shape, x.dtype
        # Under autocast the factors are kept as they are: a lower-precision copy of each would live until backward.
        kept = hidden if tuned == len(values) else operator.first_channels(hidden, tuned).clone()
        ctx.save_for_backward(kept, values, u, v)
        return operator.outward(hidden * operator.per_channel(values.to(hidden.dtype)), u, v, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, values and bias."""
        hidden, values, u, v = ctx.saved_tensors
        operator, dtype = ctx.operator, gradient.dtype
        u, v = u.to(dtype), v.to(dtype)
        of_x = of_values = of_bias = None
        if ctx.needs_input_grad[2]:
            of_bias = operator.sum_per_channel(gradient)
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            projected = operator.outward_adjoint(gradient, u, v)
            if ctx.needs_input_grad[1]:
                product = hidden * operator.first_channels(projected, ctx.tuned)
                of_values = values.new_zeros(len(values))
                of_values[: ctx.tuned] = operator.sum_per_channel(product, dtype=values.dtype)
                del product
            if ctx.needs_input_grad[0]:
                projected *= operator.per_channel(values.to(dtype))
                of_x = operator.inward_adjoint(projected, u, v, ctx.shape).to(ctx.dtype)
        return of_x, of_values, of_bias, None, None, None, None


@torch.no_grad()
def factor(weight: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """The singular value decomposition of a weight seen as a matrix of (out, everything else).

    Returns:
        U (out, rank), S (rank,), V (rank, *the weight's other dimensions), in the weight's dtype and on its device, and
        the relative error of their product.

    Raises:
        ValueError: a weight that is not finite, or an error above 64 times the dtype's resolution.
    """
    matrix = weight.flatten(1).to("cpu", torch.float64)
    if not matrix.isfinite().all():
        raise ValueError("the weight has values that are NaN or infinite; load a sound checkpoint before adapting")
    u, s, v = (part.to(weight.dtype) for part in torch.linalg.svd(matrix, full_matrices=False))
    norm = torch.linalg.matrix_norm(matrix).item()
    difference = (u.double() * s.double()) @ v.double() - matrix
    error = torch.linalg.matrix_norm(difference).item() / (norm or 1.0)
    if not error <= 64 * torch.finfo(weight.dtype).eps:
        raise ValueError(f"U S V^T differs from the weight by {error:.1e} of its norm in {weight.dtype}; use float32")
    return u.to(weight.device), s.to(weight.device), v.reshape(-1, *weight.shape[1:]).to(weight.device), error


def tuned_values(values: int | float | None, rank: int) -> int:
    """How many singular values are trained; a fraction is rounded up.

    Raises:
        ValueError: not a number from 1 to ``rank``, nor a fraction above 0 and up to 1.
    """
    if values is None:
        return rank
    if isinstance(values, int) and not isinstance(values, bool) and 1 <= values <= rank:
        return values
    if isinstance(values, float) and 0 < values <= 1:
        return math.ceil(values * rank)
    raise ValueError(f"values={values!r}: expected a number from 1 to {rank}, a fraction such as 0.5, or None for all")
