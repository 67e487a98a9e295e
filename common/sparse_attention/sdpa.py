# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.
"""Dilated segment attention by torch's scaled_dot_product_attention, on any device, forward and backward.

Two ways, chosen per pattern by its shape. Long groups are regrouped into the batch dimension and attend without a
mask. Groups of few tokens in short segments (four keys a query in the paper) would drown in overhead that way: there
whole windows of neighbouring tokens attend under a small mask, all their heads in one call, with nothing regrouped.
Either way the cost grows linearly with the tokens.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .constants import constant
from .naive import allowed
from .patterns import Pattern

# Tokens a window and most of them, measured on CPU (head size 128): windows of 32 beat regrouping 2 to 10 times at
# 4 keys a query, and lose at 64.
WINDOW, LONGEST_WINDOW = 32, 64

# Keys up to which plain products in bf16 on a CPU take a third of the time of SDPA's kernel there.
LONGEST_PRODUCT = 512

# Tokens that a CPU serves at once: temporary tensors of this size lie in recycled memory, and near the cache; larger
# ones the system hands out anew each time, page by page.
PIECE = 1024


def sdpa_attention(q: Tensor, k: Tensor, v: Tensor, patterns: tuple[Pattern, ...]) -> Tensor:
    """Args and result as in `naive_attention`; the result lies in memory as (batch, tokens, heads, head_dim)."""
    batch, heads, tokens, head_dim = q.shape
    size = _piece(q, patterns)
    pieces = _split((q, k, v), size, dim=2)
    recorded = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    if len(pieces) == 1 or recorded:
        return _join([_attend(*piece, patterns) for piece in pieces], dim=1).transpose(1, 2)
    # The same without keeping the pieces; autograd would copy all of `out` for each of them.
    out = q.new_empty((batch, tokens, heads, head_dim))
    for piece, place in zip(pieces, out.split(size, dim=1), strict=True):
        place.copy_(_attend(*piece, patterns))
    return out.transpose(1, 2)


def _split(tensors: tuple[Tensor, ...], sizes: int | list[int], dim: int) -> list[tuple[Tensor, ...]]:
    # Split, not sliced: the gradient of every slice would be a tensor as large as the whole.
    return list(zip(*(x.split(sizes, dim=dim) for x in tensors), strict=True))


def _join(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=dim)


def _piece(q: Tensor, patterns: tuple[Pattern, ...]) -> int:
    """Tokens to serve at once: all, or on a CPU about PIECE in whole segments of every pattern."""
    if q.device.type != "cpu" or any(segment is None for segment, _ in patterns):
        return q.shape[2]
    step = math.lcm(*(segment for segment, _ in patterns))
    return step * max(1, PIECE // (step * q.shape[0]))


def _attend(q: Tensor, k: Tensor, v: Tensor, patterns: tuple[Pattern, ...]) -> Tensor:
    """(batch, heads, tokens, head_dim) -> (batch, tokens, heads, head_dim)."""
    runs = _runs(patterns)
    share = q.shape[1] // len(patterns)
    heads = _split((q, k, v), [share * len(run) for run in runs], dim=1)
    outputs = []
    for run, mine in zip(runs, heads, strict=True):
        outputs.append(_windowed(*mine, run) if _short(run[0]) else _regrouped(*mine, *run[0]))
    return _join(outputs, dim=2)


def _short(pattern: Pattern) -> bool:
    segment, dilation = pattern
    return segment is not None and segment <= LONGEST_WINDOW and segment < WINDOW * dilation


def _runs(patterns: tuple[Pattern, ...]) -> list[tuple[Pattern, ...]]:
    """Neighbouring short patterns whose segments fit a common window are served together, the others one by one."""
    runs: list[tuple[Pattern, ...]] = []
    for pattern in patterns:
        joined = (*runs[-1], pattern) if runs else ()
        if joined and all(_short(p) for p in joined) and math.lcm(*(p[0] for p in joined)) <= LONGEST_WINDOW:
            runs[-1] = joined
        else:
            runs.append((pattern,))
    return runs


def _windowed(q: Tensor, k: Tensor, v: Tensor, patterns: tuple[Pattern, ...]) -> Tensor:
    """(batch, heads, tokens, head_dim) -> (batch, tokens, heads, head_dim), for patterns of short segments."""
    batch, heads, tokens, head_dim = q.shape
    step = math.lcm(*(segment for segment, _ in patterns))
    window = min(step * -(-WINDOW // step), tokens)
    if rest := tokens % window:
        # What is left over is one shorter window of its own: nothing is padded.
        parts = _split((q, k, v), [tokens - rest, rest], dim=2)
        return torch.cat([_windowed(*part, patterns) for part in parts], dim=1)
    mask = _window_mask(patterns, heads // len(patterns), window, q.device)
    out = _scaled_dot_product(*(_fold(x, window) for x in (q, k, v)), mask[None])
    return out.transpose(1, 2).reshape(batch, tokens, heads, head_dim)


def _fold(x: Tensor, window: int) -> Tensor:
    """(batch, heads, tokens, head_dim) -> (batch * windows, heads, window, head_dim); no copy after a qkv layer."""
    _, heads, _, head_dim = x.shape
    return x.transpose(1, 2).reshape(-1, window, heads, head_dim).transpose(1, 2)


@constant
def _window_mask(patterns: tuple[Pattern, ...], share: int, window: int, device: torch.device) -> Tensor:
    masks = torch.stack([allowed(window, pattern, device) for pattern in patterns])
    return masks.repeat_interleave(share, dim=0)


def _scaled_dot_product(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[2] <= LONGEST_PRODUCT:
        scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return scores.softmax(dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _regrouped(q: Tensor, k: Tensor, v: Tensor, segment: int | None, dilation: int) -> Tensor:
    """(batch, heads, tokens, head_dim) -> (batch, tokens, heads, head_dim), for one pattern of long groups."""
    tokens = q.shape[2]
    segment = min(segment or tokens, tokens)
    dilation = min(dilation, segment)
    if segment % dilation:
        return _attend_ragged(q, k, v, segment, dilation)
    if rest := tokens % segment:
        # What is left over is one shorter segment of its own: the whole ones need no mask for its sake.
        parts = _split((q, k, v), [tokens - rest, rest], dim=2)
        return torch.cat([_regrouped(*part, segment, dilation) for part in parts], dim=1)
    return _attend_even(q, k, v, segment, dilation)


def _attend_even(q: Tensor, k: Tensor, v: Tensor, segment: int, dilation: int) -> Tensor:
    batch, heads, _, head_dim = q.shape
    length = segment // dilation

    def group(x: Tensor) -> Tensor:
        x = x.transpose(1, 2).reshape(-1, length, dilation, heads, head_dim)
        return x.permute(0, 2, 3, 1, 4).reshape(-1, heads, length, head_dim)

    out = _scaled_dot_product(group(q), group(k), group(v))
    out = out.reshape(-1, dilation, heads, length, head_dim).permute(0, 3, 1, 2, 4)
    return out.reshape(batch, -1, heads, head_dim)


def _attend_ragged(q: Tensor, k: Tensor, v: Tensor, segment: int, dilation: int) -> Tensor:
    batch, heads, tokens, head_dim = q.shape
    index, mask, place = _ragged_groups(tokens, segment, dilation, q.device)
    groups, length = index.shape

    def group(x: Tensor) -> Tensor:
        x = x.transpose(1, 2).index_select(1, index.flatten())
        return x.reshape(batch * groups, length, heads, head_dim).transpose(1, 2)

    mask = mask.expand(batch, groups, length).reshape(batch * groups, 1, 1, length)
    out = _scaled_dot_product(group(q), group(k), group(v), mask)
    return out.transpose(1, 2).reshape(batch, groups * length, heads, head_dim).index_select(1, place)


@constant
def _ragged_groups(tokens: int, segment: int, dilation: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Groups of uneven length, padded to the longest.

    Returns:
        index (groups, length): each group's tokens, padded with its own first token, so that no value of another
        group can ever reach it; mask (groups, length): True where not padded; place (tokens,): where each token
        stands in the flattened index.
    """
    starts = torch.arange(0, tokens, segment, device=device)
    first = (starts[:, None] + torch.arange(dilation, device=device)).flatten()
    end = (starts + segment).clamp(max=tokens).repeat_interleave(dilation)
    # A short last segment may have fewer tokens than residues: a group without a token would attend to nothing.
    first, end = first[first < end], end[first < end]
    index = first[:, None] + dilation * torch.arange(-(-segment // dilation), device=device)
    mask = index < end[:, None]
    place = torch.empty(tokens, dtype=torch.int64, device=device)
    place[index[mask]] = mask.flatten().nonzero().flatten()
    return torch.where(mask, index, first[:, None]), mask, place
