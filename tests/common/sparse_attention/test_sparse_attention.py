# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.
"""Every backend against the definition, over one table; backends that cannot run here are left out of it."""

import importlib.util
import os

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from common.sparse_attention import PAPER_PATTERNS, morton_order, sparse_attention

PATTERNS = {
    "paper": PAPER_PATTERNS,
    "long": ((64, 1), (512, 8), (4096, 64)),
    "dense": ((None, 1),),
    "mixed": ((None, 1), (16, 4), (8, 2)),
    "dilated_dense": ((None, 4), (100, 1), (96, 3)),
    "uneven": ((10, 4), (7, 3), (100, 6)),
    "sparser_than_segment": ((4, 8), (1, 1), (65, 1)),
}
# Error of a token's vector over the mean length of the reference's vectors.
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 8e-2, torch.float16: 8e-3}


def runnable():
    """(backend, device) of all that this machine can test; Triton without a GPU only in its interpreter."""
    found = [("sdpa", "cpu")]
    triton = importlib.util.find_spec("triton") is not None
    if triton and os.environ.get("TRITON_INTERPRET") == "1":
        found.append(("triton", "cpu"))
    elif torch.cuda.is_available():
        found += [("sdpa", "cuda")] + [("triton", "cuda")] * triton
        found += [("flash", "cuda")] * (importlib.util.find_spec("flash_attn") is not None)
    return found


BACKENDS = [pytest.param(*pair, id="-".join(pair)) for pair in runnable()]


def heads_of(patterns, backend="sdpa"):
    # Triton's interpreter takes seconds a head.
    return len(patterns) * (1 if backend == "triton" and not torch.cuda.is_available() else 2)


def compare(backend, device, patterns, tokens, *, batch=1, head_dim=16, dtype=torch.float32, order=None):
    """Output and gradients of a backend against the definition in fp32 on the same numbers."""
    if backend == "flash" and dtype == torch.float32:
        pytest.skip("flash-attn has no fp32")
    generator = torch.Generator().manual_seed(tokens * head_dim)
    qkv, weight = (
        torch.randn(batch, tokens, n, heads_of(patterns, backend), head_dim, generator=generator) for n in (3, 1)
    )
    qkv = qkv.to(device, dtype).requires_grad_()
    weight = weight[:, :, 0].transpose(1, 2).to(device, dtype)

    def outcome(kind, type_):
        x = qkv.to(type_) if order is None else qkv.to(type_)[:, order]
        out = sparse_attention(*x.permute(2, 0, 3, 1, 4), patterns, backend=kind)
        if order is not None:
            out = out[:, :, order.argsort()]
        return out, *torch.autograd.grad((out.float() * weight.float()).sum(), qkv)

    for name, got, expected in zip(
        ("output", "gradient"), outcome(backend, dtype), outcome("naive", torch.float32), strict=True
    ):
        assert got.dtype == dtype and got.shape == expected.shape
        difference = (got.float() - expected.float()).norm(dim=-1).max()
        size = expected.float().norm(dim=-1).mean().clamp(min=1)
        assert difference <= TOLERANCE[dtype] * size, f"{name} differs by {difference / size:.1e}"


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("tokens", [1, 2, 3, 15, 16, 31, 64, 127, 200, 513])
@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_lengths(backend, device, tokens, name):
    compare(backend, device, PATTERNS[name], tokens, batch=2)


@pytest.mark.parametrize("head_dim", [16, 24, 64, 80, 128])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", ["paper", "uneven", "mixed"])
@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_dtypes_and_head_sizes(backend, device, name, dtype, head_dim):
    compare(backend, device, PATTERNS[name], 101, head_dim=head_dim, dtype=dtype)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("grid", [(8, 8, 8), (5, 6, 7), (1, 1, 31)])
@pytest.mark.parametrize("name", ["paper", "long"])
@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_morton_sequences(backend, device, name, grid, batch):
    order = morton_order(grid, device)
    compare(backend, device, PATTERNS[name], order.numel(), batch=batch, order=order)


@pytest.mark.parametrize(("name", "tokens"), [("paper", 4096), ("long", 4095)])
@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_whole_length(backend, device, name, tokens):
    compare(backend, device, PATTERNS[name], tokens)


@pytest.mark.slow
@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("tokens", [1023, 2048, 3001, 4095, 4096])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_long_table(backend, device, name, tokens, dtype):
    compare(backend, device, PATTERNS[name], tokens, head_dim=32, dtype=dtype)


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_any_strides(backend, device, name):
    patterns = PATTERNS[name]
    q, k, v = (torch.randn(2, heads_of(patterns), 16, 50, device=device).transpose(2, 3) for _ in range(3))
    if backend == "flash":
        q, k, v = q.half(), k.half(), v.half()
    expected = sparse_attention(q.float(), k.float(), v.float(), patterns, backend="naive")
    got = sparse_attention(q[:1].expand(2, -1, -1, -1), k, v, patterns, backend=backend)[0]
    assert torch.allclose(got.float(), expected[0], atol=4e-3 if backend == "flash" else 1e-5)


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_a_segment_neither_sees_nor_reaches_what_follows_it(backend, device):
    patterns, dtype = ((64, 1), (512, 8)), torch.float16 if backend == "flash" else torch.float32
    q, k, v = (torch.randn(1, 4, 1030, 16, device=device, dtype=dtype) for _ in range(3))
    v[:, :, 1024:] = float("nan")
    out = sparse_attention(q, k, v, patterns, backend=backend)
    alone = sparse_attention(*(x[:, :, :1024] for x in (q, k, v)), patterns, backend=backend)
    assert torch.allclose(out[:, :, :1024], alone, atol=1e-5)
    assert out[:, :, 1024:].isnan().all()


@pytest.mark.parametrize("name", ["paper", "uneven"])
def test_gradient_by_finite_differences(name):
    patterns = PATTERNS[name]
    inputs = [torch.randn(1, len(patterns), 11, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(lambda q, k, v: sparse_attention(q, k, v, patterns), inputs)


def test_dense_is_plain_attention():
    q, k, v = (torch.randn(2, 2, 37, 16) for _ in range(3))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    for patterns in (((None, 1),), ((37, 1),), ((1000, 1),), ((None, 1), (64, 1))):
        assert torch.allclose(sparse_attention(q, k, v, patterns), expected, atol=1e-6)


def test_a_token_attends_to_its_segment_and_residue_only():
    """Hand-made: 8 tokens, segment 4, dilation 2, one-hot values show whom each token listens to."""
    q = k = torch.zeros(1, 1, 8, 8)
    weights = sparse_attention(q, k, torch.eye(8)[None, None], ((4, 2),), backend="naive")[0, 0]
    listens = [[0, 2], [1, 3], [0, 2], [1, 3], [4, 6], [5, 7], [4, 6], [5, 7]]
    expected = torch.zeros(8, 8)
    for token, heard in enumerate(listens):
        expected[token, heard] = 0.5
    assert torch.equal(weights, expected)
    assert torch.allclose(sparse_attention(q, k, torch.eye(8)[None, None], ((4, 2),)), weights[None, None])


def test_first_call_in_inference_mode_leaves_training_possible():
    patterns, tokens = ((6, 4), (9, 2)), 143
    with torch.inference_mode():
        sparse_attention(*torch.randn(3, 1, 2, tokens, 16), patterns)
    compare("sdpa", "cpu", patterns, tokens)


@pytest.mark.parametrize("name", ["paper", "uneven", "long"])
def test_export_leaves_no_trace_behind(name):
    class Layer(torch.nn.Module):
        def forward(self, x):
            return sparse_attention(x, x, x, PATTERNS[name])

    x = torch.randn(1, 6, 131, 16)
    exported = torch.export.export(Layer(), (x,), strict=False).module()
    assert torch.allclose(exported(x), Layer()(x), atol=1e-5)


@pytest.mark.parametrize(("name", "short"), [("paper", 512), ("long", 4096)])
def test_work_grows_linearly(name, short):
    """Counted in bf16, whose products the counter knows on a CPU; time and memory are for tools/benchmark."""

    def work(tokens):
        q, k, v = torch.randn(3, 1, 6, tokens, 16, dtype=torch.bfloat16)
        with FlopCounterMode(display=False) as counter:
            sparse_attention(q, k, v, PATTERNS[name], backend="sdpa")
        return counter.get_total_flops()

    assert 0 < work(32768) == 32768 // short * work(short)
