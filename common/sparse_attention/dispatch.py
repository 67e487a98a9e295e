# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.
"""The one entry to sparse attention: checks the input, chooses the backend, says which it took."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from .naive import naive_attention
from .patterns import Pattern, check_patterns, check_tokens
from .sdpa import sdpa_attention

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "naive", "sdpa")


def sparse_attention(q: Tensor, k: Tensor, v: Tensor, patterns: Sequence[Pattern], *, backend: str = "auto") -> Tensor:
    """Attention of each token to the tokens of its own segment at its own residue modulo the dilation.

    Args:
        q, k, v: (batch, heads, tokens, head_dim), one dtype and device, any strides, any number of tokens.
        patterns: (segment, dilation) in tokens, each for an even, contiguous share of the heads; segment None
            means all tokens. A segment longer than the sequence is the whole sequence; the last one may be shorter.
        backend: "auto" picks by device, dtype and what is installed; any other of BACKENDS is taken or refused.

    Returns:
        (batch, heads, tokens, head_dim), scaled by 1 / sqrt(head_dim), differentiable in q, k and v.

    Raises:
        ValueError: shapes or patterns do not fit, or the backend asked for cannot run.

    Source: FastSAM3D (arXiv 2403.09827), 3D sparse flash attention.
    """
    check_tokens(q, k, v)
    patterns = check_patterns(patterns, q.shape[1])
    if backend not in BACKENDS:
        raise ValueError(f'backend is {backend!r}, expected one of {BACKENDS}; "auto" always works.')
    chosen = "sdpa" if backend == "auto" else backend
    if not torch.compiler.is_compiling():
        logger.debug("sparse attention by %s: %s, %s on %s", chosen, tuple(q.shape), q.dtype, q.device)
    return {"naive": naive_attention, "sdpa": sdpa_attention}[chosen](q, k, v, patterns)
