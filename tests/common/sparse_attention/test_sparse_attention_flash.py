# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.
"""What is handed to flash-attn, by a stand-in that follows its documented arguments and computes by SDPA."""

import sys
import types

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from common.sparse_attention import PAPER_PATTERNS, flash, sparse_attention


def flash_attn_func(q, k, v):
    """(batch, tokens, heads, head_dim)."""
    return scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)


def flash_attn_varlen_func(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k):
    """(total tokens, heads, head_dim); group g is the rows from bound g to bound g + 1."""
    assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
    assert cu_seqlens_q[0] == 0 and cu_seqlens_q[-1] == len(q) == len(k) == len(v)
    sizes = cu_seqlens_q.diff()
    assert max_seqlen_q == max_seqlen_k == sizes.max() and sizes.min() > 0
    groups = zip(*(x.split(sizes.tolist()) for x in (q, k, v)), strict=True)
    return torch.cat([flash_attn_func(*(x[None] for x in group))[0] for group in groups])


@pytest.fixture(autouse=True)
def fake_package(monkeypatch):
    package = types.ModuleType("flash_attn")
    package.flash_attn_func, package.flash_attn_varlen_func = flash_attn_func, flash_attn_varlen_func
    monkeypatch.setitem(sys.modules, "flash_attn", package)


@pytest.mark.parametrize("tokens", [1, 5, 16, 63, 200])
@pytest.mark.parametrize(
    "patterns",
    [PAPER_PATTERNS, ((64, 1), (100, 8), (4096, 64)), ((None, 1), (None, 4), (1000, 1)), ((10, 4), (7, 3), (4, 8))],
)
def test_regroups_as_the_definition_says(patterns, tokens):
    x = torch.randn(2, tokens, 3, 6, 8, requires_grad=True)
    q, k, v = x.permute(2, 0, 3, 1, 4)
    weight = torch.randn_like(q)
    expected = sparse_attention(q, k, v, patterns, backend="naive")
    got = flash.flash_attention(q, k, v, patterns)
    assert torch.allclose(got, expected, atol=1e-5)
    gradients = [torch.autograd.grad((out * weight).sum(), x)[0] for out in (got, expected)]
    assert torch.allclose(*gradients, atol=1e-4)


def test_too_many_groups_are_refused():
    x = torch.zeros(1, 1, 65537, 8)
    with pytest.raises(ValueError, match='65537 groups .*at most 65535.*"sdpa"'):
        flash.flash_attention(x, x, x, ((1, 1),))
