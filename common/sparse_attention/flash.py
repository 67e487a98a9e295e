# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.
"""Dilated segment attention by the flash-attn package, where it is installed (NVIDIA GPUs, fp16 and bf16).

The tokens of every pattern are gathered group after group into one packed sequence, and all heads of a pattern attend
in one call; uneven groups cost nothing, since the packed form takes groups of any length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .constants import constant
from .patterns import Pattern

# Its groups are one axis of a CUDA grid.
MOST_GROUPS = 65536


def flash_attention(q: Tensor, k: Tensor, v: Tensor, patterns: tuple[Pattern, ...]) -> Tensor:
    """Args and result as in `naive_attention`; fp16 or bf16 on a GPU. Needs flash-attn 2.

    Raises:
        ValueError: more groups of tokens in a batch than flash-attn can start at once.
    """
    from flash_attn import flash_attn_func, flash_attn_varlen_func

    batch, heads, tokens, head_dim = q.shape
    share = heads // len(patterns)
    outputs = []
    for number, (segment, dilation) in enumerate(patterns):
        mine = slice(number * share, (number + 1) * share)
        parts = [x[:, mine].transpose(1, 2) for x in (q, k, v)]
        if (segment is None or segment >= tokens) and dilation == 1:
            outputs.append(flash_attn_func(*parts))
            continue
        order, place, bounds, longest = _packing(batch, tokens, segment or tokens, dilation, q.device)
        if len(bounds) > MOST_GROUPS:
            raise ValueError(
                f"pattern {(segment, dilation)} cuts the batch into {len(bounds) - 1} groups of tokens; flash-attn "
                f'takes at most {MOST_GROUPS - 1}; use smaller batches, longer segments, or the backend "sdpa".'
            )
        packed = [x.reshape(batch * tokens, share, head_dim).index_select(0, order) for x in parts]
        out = flash_attn_varlen_func(*packed, bounds, bounds, longest, longest)
        outputs.append(out.index_select(0, place).reshape(batch, tokens, share, head_dim))
    return torch.cat(outputs, dim=2).transpose(1, 2)


@constant
def _packing(
    batch: int, tokens: int, segment: int, dilation: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Order of the packed tokens (batch * tokens,), its inverse, the bounds int32 (groups + 1,), the longest group."""
    token = torch.arange(tokens, device=device)
    group = token // segment * dilation + token % dilation
    groups_per_image = int(group.max()) + 1
    group = (group + groups_per_image * torch.arange(batch, device=device)[:, None]).flatten()
    order = torch.argsort(group, stable=True)
    sizes = torch.unique_consecutive(group[order], return_counts=True)[1]
    bounds = torch.nn.functional.pad(sizes.cumsum(0), (1, 0)).to(torch.int32)
    return order, order.argsort(), bounds, int(sizes.max())
