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

# Measured on CPU (head size 128): windows of 32 beat regrouping 2 to 10 times at 4 keys a query, and lose it at 64.
WINDOW, LONGEST_WINDOW = 32, 64


def sdpa_attention(q: Tensor, k: Tensor, v: Tensor, patterns: tuple[Pattern, ...]) -> Tensor:
    """Args and result as in `naive_attention`; the result lies in memory as (batch, tokens, heads, head_dim)."""
    share = q.shape[1] // len(patterns)
    outputs, head = [], 0
    for run in _runs(patterns):
        heads = slice(head, head + share * len(run))
        head = heads.stop
        attend = _windowed if _short(run[0]) else _regrouped
        outputs.append(attend(q[:, heads], k[:, heads], v[:, heads], run))
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)).transpose(1, 2)


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
    tokens, share = q.shape[2], q.shape[1] // len(patterns)
    step = math.lcm(*(segment for segment, _ in patterns))
    window = step * -(-WINDOW // step)
    whole = tokens // window * window
    outputs = []
    if whole:
        mask = _window_mask(patterns, share, window, q.device)
        outputs.append(_attend_masked(*(_fold(x[:, :, :whole], window) for x in (q, k, v)), mask))
    if whole < tokens:
        mask = _window_mask(patterns, share, tokens - whole, q.device)
        outputs.append(_attend_masked(*(x[:, :, whole:] for x in (q, k, v)), mask))
    outputs = [x.transpose(1, 2).reshape(q.shape[0], -1, q.shape[1], q.shape[3]) for x in outputs]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)


def _fold(x: Tensor, window: int) -> Tensor:
    """(batch, heads, tokens, head_dim) -> (batch * windows, heads, window, head_dim); no copy after a qkv layer."""
    _, heads, _, head_dim = x.shape
    return x.transpose(1, 2).reshape(-1, window, heads, head_dim).transpose(1, 2)


@constant
def _window_mask(patterns: tuple[Pattern, ...], share: int, window: int, device: torch.device) -> Tensor:
    masks = torch.stack([allowed(window, pattern, device) for pattern in patterns])
    return masks.repeat_interleave(share, dim=0)


def _attend_masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    if q.device.type == "cpu" and q.dtype in (torch.bfloat16, torch.float16):
        # The CPU kernel of SDPA converts tile by tile here: its backward takes three times as long as plain products.
        scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
        return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[None])


def _regrouped(q: Tensor, k: Tensor, v: Tensor, patterns: tuple[Pattern, ...]) -> Tensor:
    """(batch, heads, tokens, head_dim) -> (batch, tokens, heads, head_dim), for one pattern of long groups."""
    tokens = q.shape[2]
    ((segment, dilation),) = patterns
    segment = min(segment or tokens, tokens)
    dilation = min(dilation, segment)
    if segment % dilation:
        return _attend_ragged(q, k, v, segment, dilation)
    whole = tokens // segment * segment
    main = _attend_even(*(x[:, :, :whole] for x in (q, k, v)), segment, dilation)
    if whole == tokens:
        return main
    # What is left over is one shorter segment of its own: no key of the whole segments needs a mask for its sake.
    rest = _regrouped(*(x[:, :, whole:] for x in (q, k, v)), ((None, dilation),))
    return torch.cat([main, rest], dim=1)


def _attend_even(q: Tensor, k: Tensor, v: Tensor, segment: int, dilation: int) -> Tensor:
    batch, heads, _, head_dim = q.shape
    length = segment // dilation

    def group(x: Tensor) -> Tensor:
        x = x.transpose(1, 2).reshape(-1, length, dilation, heads, head_dim)
        return x.permute(0, 2, 3, 1, 4).reshape(-1, heads, length, head_dim)

    out = F.scaled_dot_product_attention(group(q), group(k), group(v))
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
    out = F.scaled_dot_product_attention(group(q), group(k), group(v), attn_mask=mask)
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
