# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Sparse attention by each backend, and dense attention, for growing numbers of tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from common.sparse_attention import BACKENDS, PAPER_PATTERNS, sparse_attention
from tools.benchmark.timing import Contestant

AGAINST = "sdpa_512"
HEADS, HEAD_DIM = 6, 128
TOKENS = (512, 1024, 2048, 4096, 8192, 16384, 32768)
# The definition builds (heads, tokens, tokens): 4.8 GB at 8192 tokens and more after.
LONGEST_NAIVE = 4096


def about(quick: bool) -> str:
    """What is measured, in a line."""
    tokens = (32, 64) if quick else TOKENS
    return (
        f"attention of {HEADS} heads of {HEAD_DIM} channels, the paper's patterns, {tokens[0]} to {tokens[-1]} tokens"
    )


def contestants(device: torch.device, quick: bool) -> list[Contestant]:
    """Rows BACKEND_TOKENS of every backend that runs here, and dense_TOKENS; float32 on a CPU, bfloat16 on a GPU."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    rows = []
    for tokens in (32, 64) if quick else TOKENS:
        # As a fused projection leaves them: (batch, tokens, 3, heads, channels) in memory.
        q, k, v = torch.randn(1, tokens, 3, HEADS, HEAD_DIM, dtype=dtype, device=device).permute(2, 0, 3, 1, 4)
        for backend in BACKENDS[1:]:
            if backend == "naive" and tokens > LONGEST_NAIVE:
                continue
            if device.type == "cpu" and backend in ("triton", "flash"):
                continue
            rows.append(Contestant(f"{backend}_{tokens}", _sparse(q, k, v, backend), _flops(tokens), dtype))
        rows.append(Contestant(f"dense_{tokens}", _dense(q, k, v), 4.0 * HEADS * HEAD_DIM * tokens**2, dtype))
    return rows


def _sparse(q: Tensor, k: Tensor, v: Tensor, backend: str) -> Callable[[], Tensor]:
    return lambda: sparse_attention(q, k, v, PAPER_PATTERNS, backend=backend)


def _dense(q: Tensor, k: Tensor, v: Tensor) -> Callable[[], Tensor]:
    return lambda: F.scaled_dot_product_attention(q, k, v)


def _flops(tokens: int) -> float:
    """Of the definition: each query meets ``segment / dilation`` keys."""
    keys = sum(segment / dilation for segment, dilation in PAPER_PATTERNS) / len(PAPER_PATTERNS)
    return 4.0 * HEADS * HEAD_DIM * tokens * keys
