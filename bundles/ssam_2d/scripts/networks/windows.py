# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""SAM's attention in windows, without the work on tokens that only fill the windows up.

segment-anything pads a grid of 16 x 16 tokens to 28 x 28, so that windows of 14 x 14 fit, and takes all 784 tokens
through both linear layers. Padded tokens share one query, key and value, the bias of the first layer, and their answers
are cut off. Here they are added after that layer, as keys and values alone. Parameters and values stay as they were.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .sam import SamBlock, get_rel_pos

# Above so many keys the scores of all pairs are not kept.
MANY_KEYS = 1024


class Block(SamBlock):
    """segment-anything's block: attention, in windows or over the whole grid, and an MLP."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h, w, C)."""
        x = x + attend(self.attn, self.norm1(x), self.window_size)
        return x + self.mlp(self.norm2(x))


def attend(attention: nn.Module, x: Tensor, window: int) -> Tensor:
    """What segment-anything's attention makes of a grid of tokens.

    Args:
        attention: holds the layers; they may be adapted.
        x: (B, h, w, C).
        window: tokens a side, 0 for the whole grid.

    Returns:
        (B, h, w, C).
    """
    sides = (window, window) if window else tuple(x.shape[1:3])
    # Split, not sliced: the gradient of a slice is a whole grid of zeros around it.
    rows = [
        row.split(_lengths(x.shape[2], sides[1]), 2)
        for row in attention.qkv(x).split(_lengths(x.shape[1], sides[0]), 1)
    ]
    answers = [torch.cat([_recomputed(attention, part, sides) for part in row], 2) for row in rows]
    return attention.proj(torch.cat(answers, 1))


def _recomputed(attention: nn.Module, part: Tensor, sides: tuple[int, int]) -> Tensor:
    """:func:`_attend_alike`, computed again for the gradient: what it would keep is much memory and little work."""
    if not torch.is_grad_enabled():
        return _attend_alike(attention, part, sides)
    return checkpoint(_attend_alike, attention, part, sides, use_reentrant=False, preserve_rng_state=False)


def _lengths(length: int, side: int) -> list[int]:
    """Tokens along an axis that lie in whole windows, and those in the window that the grid cuts off."""
    rest = length % side
    return [n for n in (length - rest, rest) if n]


def _attend_alike(attention: nn.Module, part: Tensor, sides: tuple[int, int]) -> Tensor:
    """Queries, keys and values (B, h, w, 3C) of windows that are all whole or all cut off alike -> (B, h, w, C)."""
    asking = [min(length, side) for length, side in zip(part.shape[1:3], sides, strict=True)]
    query, rest = part.tensor_split((part.shape[-1] // 3,), -1)
    (query,) = _windows(query, asking, 1, attention.num_heads)
    key, value = _windows(_filled_up(rest, attention.qkv.bias, sides, asking), sides, 2, attention.num_heads)
    scaled = query * attention.scale
    if attention.use_rel_pos:
        # What a query says of the distance to each row and column is chosen by keys that tell their own: one product.
        of_rows = get_rel_pos(sides[0], sides[0], attention.rel_pos_h)[: asking[0]]
        of_columns = get_rel_pos(sides[1], sides[1], attention.rel_pos_w)[: asking[1]]
        by_row = torch.einsum("...hwc,hkc->...hwk", query, of_rows)
        by_column = torch.einsum("...hwc,wkc->...hwk", query, of_columns)
        scaled = torch.cat([scaled, by_row.to(scaled.dtype), by_column.to(scaled.dtype)], dim=-1)
        own = torch.eye(sum(sides), dtype=key.dtype, device=key.device)
        own = own[: sides[0], None] + own[None, sides[0] :]
        key = torch.cat([key, own.expand(*key.shape[:-1], -1)], dim=-1)
    answer = _softmax_product(*(t.flatten(-3, -2) for t in (scaled, key, value)))
    # Images, windows down and across, heads, rows, columns, channels; back to the grid.
    answer = answer.unflatten(-2, asking).permute(0, 1, 4, 2, 5, 3, 6)
    return answer.reshape(*part.shape[:3], -1)


def _filled_up(part: Tensor, bias: Tensor | None, sides: Sequence[int], asking: Sequence[int]) -> Tensor:
    """Keys and values (B, h, w, 2C) with what the layer makes of the zeros that fill cut-off windows up."""
    below, right = (side - length for side, length in zip(sides, asking, strict=True))
    batch, height, width, channels = part.shape
    filling = part.new_zeros(channels) if bias is None else bias[-channels:].to(part.dtype)
    if right:
        part = torch.cat([part, filling.expand(batch, height, right, channels)], dim=2)
    if below:
        part = torch.cat([part, filling.expand(batch, below, width + right, channels)], dim=1)
    return part


def _windows(x: Tensor, sides: Sequence[int], kinds: int, heads: int) -> tuple[Tensor, ...]:
    """(B, h, w, kinds * C) -> of each kind (B, windows down, across, heads, *sides, channels of a head)."""
    down, across = (length // side for length, side in zip(x.shape[1:3], sides, strict=True))
    x = x.reshape(len(x), down, sides[0], across, sides[1], kinds, heads, -1)
    return x.permute(5, 0, 1, 3, 6, 2, 4, 7).unbind(0)


def _softmax_product(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(..., Q, D), (..., K, D), (..., K, C) -> softmax(query key^T) value, (..., Q, C)."""
    if key.shape[-2] <= MANY_KEYS:
        return (query @ key.transpose(-2, -1)).softmax(-1) @ value
    leading, channels = value.shape[:-2], value.shape[-1]
    # One width for all three, or torch falls back to what keeps the scores.
    value = F.pad(value, (0, key.shape[-1] - channels))
    query, key, value = (t.flatten(0, -4) for t in (query, key, value))
    answer = F.scaled_dot_product_attention(query, key, value, scale=1.0)[..., :channels]
    return answer.reshape(*leading, *answer.shape[-2:])
