# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""FastSAM3D's published forms against their definitions written out in loops."""

import pytest
import torch
from small_networks import PUBLISHED_SIZES
from torch.nn import functional as F

from bundles.fastsam3d.scripts.networks.mask_decoder import Attention, MaskDecoder3D
from bundles.fastsam3d.scripts.networks.published import (
    FlashAttention,
    PublishedStudent3D,
    RelativeAttention,
    StridedGroupAttention,
)

SMALL = {**PUBLISHED_SIZES, "img_size": 20, "skip_layer": 1}


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def groups_by_loops(q, k, v):
    """Strided groups of one head, (tokens, c) each, one query at a time."""
    out = []
    for first in range(64):
        members = range(first, len(q), 64)
        for i in members:
            logits = torch.stack([q[i] @ k[j] / q.shape[1] ** 0.5 for j in members])
            out.append(sum(weight * v[j] for weight, j in zip(logits.softmax(0), members, strict=True)))
    return torch.stack(out)


@pytest.mark.parametrize("grid", [(3, 3, 3), (4, 4, 4), (5, 5, 5), (6, 6, 6), (8, 8, 8), (2, 5, 7)])
def test_strided_groups_are_their_definition(grid):
    tokens = grid[0] * grid[1] * grid[2]
    q, k, v = random(3, 2, 2, tokens, 3)
    ours = StridedGroupAttention(6, 2, 8).attend(q, k, v, grid)
    for image in range(2):
        for head in range(2):
            expected = groups_by_loops(q[image, head], k[image, head], v[image, head])
            torch.testing.assert_close(ours[image, head], expected)


def test_strided_groups_permute_the_tokens():
    """With every token attending to itself alone, place 8 i + j of 512 gets token i + 64 j."""
    tokens = torch.arange(512, dtype=torch.double)
    same = 1e4 * torch.eye(512, dtype=torch.double)[None, None]
    v = tokens[None, None, :, None].expand(1, 1, 512, 512)
    ours = StridedGroupAttention(512, 1, 8).attend(same, same, v, (8, 8, 8))[0, 0, :, 0]
    expected = torch.stack([tokens[i + 64 * j] for i in range(64) for j in range(8)])
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("attention", [RelativeAttention, StridedGroupAttention])
def test_the_residual_starts_after_the_norm(attention):
    student = PublishedStudent3D(**SMALL, attention=attention).double().eval()
    volume = random(1, 1, 20, 20, 20)
    with torch.no_grad():
        for table in (p for name, p in student.named_parameters() if "rel_pos" in name or name == "pos_embed"):
            table.copy_(random(*table.shape))
        x, blocks = student.forward_features(volume)
        for block, ours in zip(student.blocks, blocks, strict=True):
            state = block.state_dict()
            if "norm1.weight" in state:
                normal = F.layer_norm(x, (12,), state["norm1.weight"], state["norm1.bias"], 1e-6)
                x = x + block.attn(normal)
            x = F.layer_norm(x, (12,), state["norm2.weight"], state["norm2.bias"], 1e-6)
            hidden = F.gelu(x @ state["mlp.lin1.weight"].T + state["mlp.lin1.bias"])
            x = x + hidden @ state["mlp.lin2.weight"].T + state["mlp.lin2.bias"]
            torch.testing.assert_close(ours, x)


def test_both_students_take_the_same_weights():
    dense = PublishedStudent3D(**SMALL)
    sparse = PublishedStudent3D(**SMALL, attention=StridedGroupAttention)
    sparse.load_state_dict(dense.state_dict())
    keys = set(dense.state_dict())
    assert {"blocks.0.norm2.weight", "blocks.1.norm1.weight", "blocks.2.attn.rel_pos_w", "neck.3.bias"} <= keys
    assert not [key for key in keys if key.startswith(("blocks.0.attn", "blocks.0.norm1"))]
    volume = torch.randn(1, 1, 20, 20, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert not torch.allclose(dense(volume), sparse(volume))


@pytest.mark.parametrize("attention", [RelativeAttention, StridedGroupAttention])
@pytest.mark.parametrize("shape", [(20, 20, 20), (16, 16, 16), (24, 24, 24), (12, 20, 24)])
def test_other_grids_and_batches(attention, shape):
    student = PublishedStudent3D(**SMALL, attention=attention).double().eval()
    volumes = random(2, 1, *shape)
    with torch.no_grad():
        together = student(volumes)
        alone = torch.cat([student(volume[None]) for volume in volumes])
    assert together.shape == (2, 6, *(n // 4 for n in shape))
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("attention", [RelativeAttention, StridedGroupAttention])
def test_bfloat16(attention):
    student = PublishedStudent3D(**SMALL, attention=attention).double().eval()
    volume = random(1, 1, 20, 20, 20)
    with torch.no_grad():
        expected = student(volume)
        ours = student.bfloat16()(volume.bfloat16())
    assert ours.dtype == torch.bfloat16
    assert (ours.double() - expected).abs().max() < 0.1 * expected.abs().max()


def flash_by_loops(state, heads, q, k, v):
    """The flash decoder's attention, (tokens, C) each, without its rounding."""
    q, k, v = (x @ state[f"{n}_proj.weight"].T + state[f"{n}_proj.bias"] for n, x in (("q", q), ("k", k), ("v", v)))
    channels = q.shape[1] // heads
    mixed = torch.zeros_like(q)
    for head in range(heads):
        part = slice(head * channels, (head + 1) * channels)
        for i in range(len(q)):
            weights = torch.stack([q[i, part] @ key / channels**0.5 for key in k[:, part]]).softmax(0)
            for c, value in enumerate(weights @ v[:, part]):
                mixed[i, c * heads + head] = value
    return mixed @ state["out_proj.weight"].T + state["out_proj.bias"]


@pytest.mark.parametrize(("width", "heads", "reduction"), [(12, 3, 1), (20, 2, 2), (18, 1, 1)])
def test_flash_attention_is_its_definition(width, heads, reduction):
    attention = FlashAttention(width, heads, reduction).double()
    q, k = random(2, 5, width), random(2, 7, width, seed=2)
    with torch.no_grad():
        ours, plain = attention(q, k, k), Attention.forward(attention, q, k, k)
    for image in range(2):
        expected = flash_by_loops(attention.state_dict(), heads, q[image], k[image], k[image])
        torch.testing.assert_close(ours[image], expected, rtol=0, atol=2e-3 * expected.abs().max().item())
    assert torch.allclose(ours, plain, atol=1e-2) == (heads == 1)


def test_the_decoders_of_both_forms_take_the_same_weights():
    sizes = {"embed_dim": 24, "heads": 2, "mlp_dim": 16, "iou_head_hidden_dim": 8}
    flash, plain = MaskDecoder3D(**sizes, attention=FlashAttention), MaskDecoder3D(**sizes)
    plain.load_state_dict(flash.state_dict())
    prompts = [random(1, 24, 2, 2, 2), random(1, 24, 2, 2, 2), random(3, 4, 24), random(3, 24, 2, 2, 2)]
    for dtype in torch.double, torch.bfloat16:
        with torch.no_grad():
            ours, _ = flash.to(dtype)(*(x.to(dtype) for x in prompts))
            other, _ = plain.to(dtype)(*(x.to(dtype) for x in prompts))
        assert ours.shape == (3, 1, 8, 8, 8)
        assert ours.dtype == dtype
        assert not torch.allclose(ours, other, rtol=1e-2)
