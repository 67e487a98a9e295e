# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.
"""The definition of dilated segment attention, slow and obvious; every backend is tested against it."""

from __future__ import annotations

import torch
from torch import Tensor

from .patterns import Pattern


def allowed(tokens: int, pattern: Pattern, device: torch.device | None = None) -> Tensor:
    """Which token sees which, bool (tokens, tokens): the same segment and the same residue modulo the dilation."""
    segment, dilation = pattern
    token = torch.arange(tokens, device=device)
    place = token // (segment or tokens)
    residue = token % dilation
    return (place[:, None] == place[None, :]) & (residue[:, None] == residue[None, :])


def naive_attention(q: Tensor, k: Tensor, v: Tensor, patterns: tuple[Pattern, ...]) -> Tensor:
    """Attention with one boolean mask of (tokens, tokens) per pattern.

    Args:
        q, k, v: (batch, heads, tokens, head_dim).
        patterns: (segment, dilation) for each even, contiguous share of the heads.

    Returns:
        (batch, heads, tokens, head_dim), in the dtype of q. Memory grows with the square of the tokens.

    Source: FastSAM3D (arXiv 2403.09827), 3D sparse flash attention; LongNet (arXiv 2307.02486), section 3.
    """
    tokens, head_dim = q.shape[-2:]
    masks = torch.stack([allowed(tokens, pattern, q.device) for pattern in patterns])
    mask = masks.repeat_interleave(q.shape[1] // len(patterns), dim=0)
    scores = q @ k.transpose(-2, -1) / head_dim**0.5
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1) @ v
