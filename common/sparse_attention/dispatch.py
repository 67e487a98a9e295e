# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.
"""The one entry to sparse attention: checks the input, chooses the backend and logs which one it took."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from .naive import naive_attention
from .patterns import Pattern, check_patterns, check_tokens
from .sdpa import sdpa_attention

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "naive", "sdpa", "triton", "flash")


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
    if backend == "auto":
        backend = _choose(q, patterns)
    elif reason := _obstacle(backend, q):
        raise ValueError(f'backend "{backend}" cannot run: {reason}; or use "auto", which always works.')
    if not torch.compiler.is_compiling():
        logger.debug("sparse attention by %s: %s, %s on %s", backend, tuple(q.shape), q.dtype, q.device)
    return _function(backend)(q, k, v, patterns)


def _function(backend: str):
    if backend == "triton":
        from .triton_kernel import triton_attention

        return triton_attention
    if backend == "flash":
        from .flash import flash_attention

        return flash_attention
    return naive_attention if backend == "naive" else sdpa_attention


def _choose(q: Tensor, patterns: tuple[Pattern, ...]) -> str:
    # An exported graph should run wherever torch does.
    if q.device.type != "cuda" or torch.jit.is_tracing() or torch.compiler.is_exporting():
        return "sdpa"
    dense = all(dilation == 1 and (segment is None or segment >= q.shape[2]) for segment, dilation in patterns)
    # Triton alone moves no tokens; for dense heads there is nothing to move, and the libraries are better tuned.
    preferred = "flash" if dense else "triton"
    return "sdpa" if _obstacle(preferred, q) else preferred


def _obstacle(backend: str, q: Tensor) -> str | None:
    """Why the backend cannot run on this input and what to do about it, or None."""
    if backend not in ("triton", "flash"):
        return None
    package = {"triton": "triton", "flash": "flash_attn"}[backend]
    if not _installed(package):
        return f"the package {package} is not installed; install it"
    # Triton's interpreter runs its kernels on CPU tensors, very slowly: for tests, never picked by itself.
    interpreted = backend == "triton" and os.environ.get("TRITON_INTERPRET") == "1"
    if q.device.type != "cuda" and not interpreted:
        return f"it needs a GPU and the tensors are on {q.device}; move them to one"
    if q.device.type == "cuda" and torch.cuda.get_device_capability(q.device) < (8, 0):
        return f"{torch.cuda.get_device_name(q.device)} is older than it supports (compute capability 8.0)"
    dtypes = (torch.float16, torch.bfloat16, torch.float32)[: 3 if backend == "triton" else 2]
    if q.dtype not in dtypes:
        return f"it works in {', '.join(map(str, dtypes))} and the tensors are {q.dtype}; convert them"
    if q.shape[3] > 256:
        return f"it takes up to 256 channels a head and was given {q.shape[3]}; use more heads"
    return None


@cache
def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
