# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.
"""Dilated segment attention as Triton kernels: all patterns in one launch, each token read and written at its place.

Import this module only where Triton is installed. The kernels walk along *positions*: the tokens sorted by segment,
then residue, then place. Each group of tokens that see each other is an interval of positions, so that attention is
block-diagonal, and a tile of query positions needs one stretch of key positions, from the start of its first group to
the end of its last. Positions are turned into tokens by arithmetic; nothing is moved in memory.

Forward by online softmax, backward from the log-sum-exp of each row (FlashAttention-2, arXiv 2307.08691, section 3).
"""

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from .constants import constant
from .patterns import Pattern

LOG2_E = 1.4426950408889634


def triton_attention(q: Tensor, k: Tensor, v: Tensor, patterns: tuple[Pattern, ...]) -> Tensor:
    """Args and result as in `naive_attention`, fp32, bf16 or fp16; memory lies as (batch, tokens, heads, head_dim)."""
    return _Attention.apply(q, k, v, patterns)


@triton.jit
def _place(position, segment, dilation, tokens):
    """The token at each position, and the first and the last-but-one-past position of the token's group."""
    position = tl.minimum(position, tokens - 1)
    base = position // segment * segment
    length = tl.minimum(segment, tokens - base)
    # The first `longer` residues of a segment have one token more than the others.
    shorter = length // dilation
    longer = length % dilation
    border = longer * (shorter + 1)
    inside = position - base
    in_longer = inside < border
    size = tl.where(in_longer, shorter + 1, tl.maximum(shorter, 1))
    offset = tl.where(in_longer, inside, inside - border)
    residue = tl.where(in_longer, 0, longer) + offset // size
    index = offset % size
    return base + residue + index * dilation, position - index, position - index + size


@triton.jit
def _pattern_of(pattern_table, head, SHARE: tl.constexpr):
    pattern = head // SHARE
    return tl.load(pattern_table + 2 * pattern), tl.load(pattern_table + 2 * pattern + 1)


@triton.jit
def _rows(base, token, stride_token, column, stride_column):
    return base + token.to(tl.int64)[:, None] * stride_token + column[None, :] * stride_column


@triton.jit
def _dot(a, b, PRECISION: tl.constexpr, WIDE: tl.constexpr):
    # Triton's interpreter multiplies the bit patterns of bf16 numbers instead of the numbers.
    if WIDE:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def _forward(
    q, k, v, out, lse, pattern_table, tokens, heads, scale_log2,
    q_batch, q_head, q_token, q_column, k_batch, k_head, k_token, k_column,
    v_batch, v_head, v_token, v_column, o_batch, o_head, o_token, o_column,
    SHARE: tl.constexpr, HEAD_DIM: tl.constexpr, COLUMNS: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    tiles = tl.cdiv(tokens, TILE)
    row_of_heads = tl.program_id(0) // tiles
    first = tl.program_id(0) % tiles * TILE
    batch = (row_of_heads // heads).to(tl.int64)
    head = row_of_heads % heads
    segment, dilation = _pattern_of(pattern_table, head, SHARE)
    q += batch * q_batch + head * q_head
    k += batch * k_batch + head * k_head
    v += batch * v_batch + head * v_head
    out += batch * o_batch + head * o_head
    lse += row_of_heads.to(tl.int64) * tokens

    column = tl.arange(0, COLUMNS)
    is_column = column < HEAD_DIM
    position = first + tl.arange(0, TILE)
    is_row = position < tokens
    token, start, end = _place(position, segment, dilation, tokens)
    filled = is_row[:, None] & is_column[None, :]
    q_tile = tl.load(_rows(q, token, q_token, column, q_column), mask=filled, other=0.0)

    highest = tl.full([TILE], -1.0e30, tl.float32)
    total = tl.zeros([TILE], tl.float32)
    acc = tl.zeros([TILE, COLUMNS], tl.float32)
    for key_first in range(tl.min(start), tl.max(end), TILE):
        key_position = key_first + tl.arange(0, TILE)
        key_token, _start, _end = _place(key_position, segment, dilation, tokens)
        key_filled = (key_position < tokens)[:, None] & is_column[None, :]
        k_tile = tl.load(_rows(k, key_token, k_token, column, k_column), mask=key_filled, other=0.0)
        v_tile = tl.load(_rows(v, key_token, v_token, column, v_column), mask=key_filled, other=0.0)
        seen = (key_position[None, :] >= start[:, None]) & (key_position[None, :] < end[:, None])
        scores = _dot(q_tile, tl.trans(k_tile), PRECISION, WIDE) * scale_log2
        scores = tl.where(seen, scores, -1.0e30)
        higher = tl.maximum(highest, tl.max(scores, 1))
        # A row may see nothing of this tile: without the mask its weights would be exp2(0).
        weights = tl.where(seen, tl.exp2(scores - higher[:, None]), 0.0)
        shrink = tl.exp2(highest - higher)
        total = total * shrink + tl.sum(weights, 1)
        acc = acc * shrink[:, None] + _dot(weights.to(v_tile.dtype), v_tile, PRECISION, WIDE)
        highest = higher

    acc = acc / total[:, None]
    tl.store(_rows(out, token, o_token, column, o_column), acc.to(out.dtype.element_ty), mask=filled)
    tl.store(lse + position, highest + tl.log2(total), mask=is_row)


@triton.jit
def _backward_q(
    q, k, v, out, d_out, d_q, lse, delta, pattern_table, tokens, heads, scale, scale_log2,
    q_batch, q_head, q_token, q_column, k_batch, k_head, k_token, k_column,
    v_batch, v_head, v_token, v_column, o_batch, o_head, o_token, o_column,
    g_batch, g_head, g_token, g_column, x_batch, x_head, x_token, x_column,
    SHARE: tl.constexpr, HEAD_DIM: tl.constexpr, COLUMNS: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    tiles = tl.cdiv(tokens, TILE)
    row_of_heads = tl.program_id(0) // tiles
    first = tl.program_id(0) % tiles * TILE
    batch = (row_of_heads // heads).to(tl.int64)
    head = row_of_heads % heads
    segment, dilation = _pattern_of(pattern_table, head, SHARE)
    q += batch * q_batch + head * q_head
    k += batch * k_batch + head * k_head
    v += batch * v_batch + head * v_head
    out += batch * o_batch + head * o_head
    d_out += batch * g_batch + head * g_head
    d_q += batch * x_batch + head * x_head
    lse += row_of_heads.to(tl.int64) * tokens
    delta += row_of_heads.to(tl.int64) * tokens

    column = tl.arange(0, COLUMNS)
    is_column = column < HEAD_DIM
    position = first + tl.arange(0, TILE)
    is_row = position < tokens
    token, start, end = _place(position, segment, dilation, tokens)
    filled = is_row[:, None] & is_column[None, :]
    q_tile = tl.load(_rows(q, token, q_token, column, q_column), mask=filled, other=0.0)
    g_tile = tl.load(_rows(d_out, token, g_token, column, g_column), mask=filled, other=0.0)
    o_tile = tl.load(_rows(out, token, o_token, column, o_column), mask=filled, other=0.0)
    delta_row = tl.sum(g_tile.to(tl.float32) * o_tile.to(tl.float32), 1)
    tl.store(delta + position, delta_row, mask=is_row)
    lse_row = tl.load(lse + position, mask=is_row, other=0.0)

    acc = tl.zeros([TILE, COLUMNS], tl.float32)
    for key_first in range(tl.min(start), tl.max(end), TILE):
        key_position = key_first + tl.arange(0, TILE)
        key_token, _start, _end = _place(key_position, segment, dilation, tokens)
        key_filled = (key_position < tokens)[:, None] & is_column[None, :]
        k_tile = tl.load(_rows(k, key_token, k_token, column, k_column), mask=key_filled, other=0.0)
        v_tile = tl.load(_rows(v, key_token, v_token, column, v_column), mask=key_filled, other=0.0)
        seen = (key_position[None, :] >= start[:, None]) & (key_position[None, :] < end[:, None])
        scores = _dot(q_tile, tl.trans(k_tile), PRECISION, WIDE) * scale_log2
        weights = tl.exp2(tl.where(seen, scores - lse_row[:, None], -1.0e30))
        d_weights = _dot(g_tile, tl.trans(v_tile), PRECISION, WIDE)
        d_scores = weights * (d_weights - delta_row[:, None])
        acc += _dot(d_scores.to(k_tile.dtype), k_tile, PRECISION, WIDE)

    acc = acc * scale
    tl.store(_rows(d_q, token, x_token, column, x_column), acc.to(d_q.dtype.element_ty), mask=filled)


@triton.jit
def _backward_kv(
    q, k, v, d_out, d_k, d_v, lse, delta, pattern_table, tokens, heads, scale, scale_log2,
    q_batch, q_head, q_token, q_column, k_batch, k_head, k_token, k_column,
    v_batch, v_head, v_token, v_column, g_batch, g_head, g_token, g_column,
    x_batch, x_head, x_token, x_column, y_batch, y_head, y_token, y_column,
    SHARE: tl.constexpr, HEAD_DIM: tl.constexpr, COLUMNS: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    tiles = tl.cdiv(tokens, TILE)
    row_of_heads = tl.program_id(0) // tiles
    first = tl.program_id(0) % tiles * TILE
    batch = (row_of_heads // heads).to(tl.int64)
    head = row_of_heads % heads
    segment, dilation = _pattern_of(pattern_table, head, SHARE)
    q += batch * q_batch + head * q_head
    k += batch * k_batch + head * k_head
    v += batch * v_batch + head * v_head
    d_out += batch * g_batch + head * g_head
    d_k += batch * x_batch + head * x_head
    d_v += batch * y_batch + head * y_head
    lse += row_of_heads.to(tl.int64) * tokens
    delta += row_of_heads.to(tl.int64) * tokens

    column = tl.arange(0, COLUMNS)
    is_column = column < HEAD_DIM
    position = first + tl.arange(0, TILE)
    token, start, end = _place(position, segment, dilation, tokens)
    filled = (position < tokens)[:, None] & is_column[None, :]
    k_tile = tl.load(_rows(k, token, k_token, column, k_column), mask=filled, other=0.0)
    v_tile = tl.load(_rows(v, token, v_token, column, v_column), mask=filled, other=0.0)

    # Who sees whom is symmetric: the queries of these keys are the same stretch of positions.
    k_acc = tl.zeros([TILE, COLUMNS], tl.float32)
    v_acc = tl.zeros([TILE, COLUMNS], tl.float32)
    for query_first in range(tl.min(start), tl.max(end), TILE):
        query_position = query_first + tl.arange(0, TILE)
        is_query = query_position < tokens
        query_token, _start, _end = _place(query_position, segment, dilation, tokens)
        query_filled = is_query[:, None] & is_column[None, :]
        q_tile = tl.load(_rows(q, query_token, q_token, column, q_column), mask=query_filled, other=0.0)
        g_tile = tl.load(_rows(d_out, query_token, g_token, column, g_column), mask=query_filled, other=0.0)
        lse_row = tl.load(lse + query_position, mask=is_query, other=0.0)
        delta_row = tl.load(delta + query_position, mask=is_query, other=0.0)
        seen = (query_position[None, :] >= start[:, None]) & (query_position[None, :] < end[:, None])
        scores = _dot(k_tile, tl.trans(q_tile), PRECISION, WIDE) * scale_log2
        weights = tl.exp2(tl.where(seen, scores - lse_row[None, :], -1.0e30))
        v_acc += _dot(weights.to(g_tile.dtype), g_tile, PRECISION, WIDE)
        d_weights = _dot(v_tile, tl.trans(g_tile), PRECISION, WIDE)
        d_scores = weights * (d_weights - delta_row[None, :])
        k_acc += _dot(d_scores.to(q_tile.dtype), q_tile, PRECISION, WIDE)

    k_acc = k_acc * scale
    tl.store(_rows(d_k, token, x_token, column, x_column), k_acc.to(d_k.dtype.element_ty), mask=filled)
    tl.store(_rows(d_v, token, y_token, column, y_column), v_acc.to(d_v.dtype.element_ty), mask=filled)


@constant
def _pattern_table(patterns: tuple[Pattern, ...], tokens: int, device: torch.device) -> Tensor:
    """int32 (patterns, 2): segment and dilation of each, clipped to the sequence."""
    segments = [min(segment or tokens, tokens) for segment, _ in patterns]
    rows = [(segment, min(dilation, segment)) for segment, (_, dilation) in zip(segments, patterns, strict=True)]
    return torch.tensor(rows, dtype=torch.int32, device=device)


def options(head_dim: int, heads_per_pattern: int, dtype: torch.dtype) -> dict:
    """Compile-time arguments of the kernels; public for the test that compiles them without a GPU."""
    columns = max(16, triton.next_power_of_2(head_dim))
    # Four to six tiles of (tile, columns) have to fit the shared memory of one block, 99 KiB on the smallest GPUs,
    # and fp32 products, which use no tensor cores, run out of registers with larger tiles.
    tile = 64 if dtype.itemsize == 2 and columns <= 128 else 32
    if columns * dtype.itemsize > 512:
        tile = 16
    # As strict in fp32 as torch's own products: TF32 only where the user allowed it.
    precision = "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
    return {
        "SHARE": heads_per_pattern,
        "HEAD_DIM": head_dim,
        "COLUMNS": columns,
        "TILE": tile,
        "PRECISION": precision,
        "WIDE": dtype == torch.bfloat16 and os.environ.get("TRITON_INTERPRET") == "1",
        "num_warps": 4,
        "num_stages": 2,
    }


def _empty(like: Tensor) -> Tensor:
    """(batch, heads, tokens, head_dim) whose memory lies token by token, so that joining the heads is a view."""
    batch, heads, tokens, head_dim = like.shape
    return like.new_empty((batch, tokens, heads, head_dim)).transpose(1, 2)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, patterns: tuple[Pattern, ...]) -> Tensor:
        batch, heads, tokens, head_dim = q.shape
        out = _empty(q)
        lse = torch.empty((batch, heads, tokens), dtype=torch.float32, device=q.device)
        ctx.table = _pattern_table(patterns, tokens, q.device)
        ctx.options = options(head_dim, heads // len(patterns), q.dtype)
        ctx.scale = head_dim**-0.5
        grid = (triton.cdiv(tokens, ctx.options["TILE"]) * batch * heads,)
        with torch.cuda.device_of(q):
            _forward[grid](
                q, k, v, out, lse, ctx.table, tokens, heads, ctx.scale * LOG2_E,
                *q.stride(), *k.stride(), *v.stride(), *out.stride(), **ctx.options,
            )  # fmt: skip
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, out, lse = ctx.saved_tensors
        batch, heads, tokens, _ = q.shape
        d_q, d_k, d_v, delta = _empty(q), _empty(k), _empty(v), torch.empty_like(lse)
        grid = (triton.cdiv(tokens, ctx.options["TILE"]) * batch * heads,)
        scales = ctx.scale, ctx.scale * LOG2_E
        with torch.cuda.device_of(q):
            # The first launch also leaves delta, the row sums of d_out * out, for the second.
            _backward_q[grid](
                q, k, v, out, d_out, d_q, lse, delta, ctx.table, tokens, heads, *scales,
                *q.stride(), *k.stride(), *v.stride(), *out.stride(), *d_out.stride(), *d_q.stride(), **ctx.options,
            )  # fmt: skip
            _backward_kv[grid](
                q, k, v, d_out, d_k, d_v, lse, delta, ctx.table, tokens, heads, *scales,
                *q.stride(), *k.stride(), *v.stride(), *d_out.stride(), *d_k.stride(), *d_v.stride(), **ctx.options,
            )  # fmt: skip
        return d_q, d_k, d_v, None
