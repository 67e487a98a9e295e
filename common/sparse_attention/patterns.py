# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.
"""What a pattern of attention is, and the checks that every backend relies on."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

Pattern = tuple[int | None, int]
"""(segment length, dilation), in tokens; segment None means all tokens."""

PAPER_PATTERNS: tuple[Pattern, ...] = ((4, 1), (8, 2), (16, 4))
"""FastSAM3D, section 2: each on a third of the heads."""


def check_patterns(patterns: Sequence[Pattern], heads: int) -> tuple[Pattern, ...]:
    """Return the patterns as a tuple of tuples of ints (so that it can be a cache's key).

    Raises:
        ValueError: no pattern, a malformed one, or heads that do not divide evenly among them.
    """
    try:
        checked = tuple((None if s is None else int(s), int(d)) for s, d in patterns)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"patterns is {patterns!r}, expected pairs (segment, dilation) such as {PAPER_PATTERNS}; "
            "write [[null, 1]] in a configuration for dense attention."
        ) from error
    if not checked or any(d < 1 or (s is not None and s < 1) for s, d in checked):
        raise ValueError(
            f"patterns is {patterns!r}, expected at least one pair (segment, dilation) of numbers from 1 up; "
            "correct the pair, or use (None, 1) for dense attention."
        )
    if heads % len(checked):
        raise ValueError(
            f"{heads} heads do not divide among {len(checked)} patterns; "
            f"use a multiple of {len(checked)} heads, or another number of patterns."
        )
    return checked


def check_tokens(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raise ValueError unless q, k and v are (batch, heads, tokens, head_dim) of one shape, dtype and device."""
    if q.ndim != 4 or q.shape != k.shape or q.shape != v.shape or q.shape[2] < 1:
        raise ValueError(
            f"q, k, v have shapes {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}; expected one shape "
            "(batch, heads, tokens, head_dim) with at least one token. Split the heads before the call."
        )
    if not (q.dtype == k.dtype == v.dtype and q.device == k.device == v.device):
        raise ValueError(
            f"q, k, v are {q.dtype} on {q.device}, {k.dtype} on {k.device}, {v.dtype} on {v.device}; "
            "expected one dtype on one device. Convert them before the call."
        )
    if not q.dtype.is_floating_point:
        raise ValueError(f"q, k, v are {q.dtype}; expected a floating-point type. Convert them before the call.")
