# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""SAM-Med3D's image encoder against its definition written out in loops, and on grids it was not trained on."""

from itertools import product

import pytest
import torch
from small_networks import PUBLISHED_SIZES
from torch.nn import functional as F

from bundles.fastsam3d.scripts.networks.image_encoder import (
    ImageEncoder3D,
    RelativeAttention,
    join_windows,
    split_windows,
)

SMALL = {**PUBLISHED_SIZES, "img_size": 12, "global_attn_indexes": [1], "window_size": 2}


def randomise(module, seed=0):
    """Every parameter random, also those that start as zeros or ones; double precision."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.double))
    return module.eval()


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def attention_by_loops(state, heads, x):
    """Relative attention over a cube x (n, n, n, C), one logit at a time; state: a RelativeAttention's."""
    n, width = x.shape[0], x.shape[-1]
    channels = width // heads
    qkv = x @ state["qkv.weight"].T + state["qkv.bias"]
    tables = [state[f"rel_pos_{axis}"] for axis in "dhw"]
    places = list(product(range(n), repeat=3))
    out = torch.zeros_like(x)
    for head in range(heads):
        part = [qkv[..., i * width + head * channels :][..., :channels] for i in range(3)]
        q, k, v = part

        def term(axis, place, i, j, q=q):
            return q[place] @ tables[axis][i - j + n - 1]

        for d, h, w in places:
            logits = torch.stack(
                [
                    q[d, h, w] @ k[kd, kh, kw] / channels**0.5
                    + term(0, (d, h, w), d, kw)
                    + term(1, (d, h, kd), h, kw)
                    + term(2, (d, h, kh), kh, kw)
                    for kd, kh, kw in places
                ]
            )
            out[d, h, w, head * channels : (head + 1) * channels] = logits.softmax(0) @ v.reshape(-1, channels)
    return out @ state["proj.weight"].T + state["proj.bias"]


def channel_norm(x, weight, bias):
    """x (C, d, h, w)."""
    normal = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-6).sqrt()
    return normal * weight[:, None, None, None] + bias[:, None, None, None]


def encoder_by_definition(state, config, volume):
    """Outputs of the blocks and the embedding of one volume (n, n, n)."""
    patch, width, heads = config["patch_size"], config["embed_dim"], config["num_heads"]
    grid = volume.shape[0] // patch
    x = torch.zeros(grid, grid, grid, width, dtype=volume.dtype)
    for d, h, w in product(range(grid), repeat=3):
        voxels = volume[d * patch :, h * patch :, w * patch :][:patch, :patch, :patch]
        kernel = state["patch_embed.proj.weight"][:, 0]
        x[d, h, w] = (kernel * voxels).sum((1, 2, 3)) + state["patch_embed.proj.bias"] + state["pos_embed"][0, d, h, w]
    blocks = []
    for index in range(config["depth"]):
        part = {key.removeprefix(f"blocks.{index}."): value for key, value in state.items()}
        attention = {key.removeprefix("attn."): value for key, value in part.items() if key.startswith("attn.")}
        normal = F.layer_norm(x, (width,), part["norm1.weight"], part["norm1.bias"], 1e-6)
        size = grid if index in config["global_attn_indexes"] else config["window_size"]
        starts = range(0, grid, size)
        padded = torch.zeros(*(len(starts) * size,) * 3, width, dtype=x.dtype)
        padded[:grid, :grid, :grid] = normal
        for d, h, w in product(starts, repeat=3):
            window = padded[d : d + size, h : h + size, w : w + size]
            window.copy_(attention_by_loops(attention, heads, window.clone()))
        x = x + padded[:grid, :grid, :grid]
        normal = F.layer_norm(x, (width,), part["norm2.weight"], part["norm2.bias"], 1e-6)
        hidden = F.gelu(normal @ part["mlp.lin1.weight"].T + part["mlp.lin1.bias"])
        x = x + hidden @ part["mlp.lin2.weight"].T + part["mlp.lin2.bias"]
        blocks.append(x)
    embedding = torch.einsum("oc,dhwc->odhw", state["neck.0.weight"].flatten(1), x)
    embedding = channel_norm(embedding, state["neck.1.weight"], state["neck.1.bias"])
    embedding = F.conv3d(embedding[None], state["neck.2.weight"], padding=1)[0]
    return blocks, channel_norm(embedding, state["neck.3.weight"], state["neck.3.bias"])


def test_encoder_is_its_definition():
    encoder = randomise(ImageEncoder3D(**SMALL))
    volume = random(12, 12, 12)
    blocks, embedding = encoder_by_definition(encoder.state_dict(), SMALL, volume)
    with torch.no_grad():
        _, ours = encoder.forward_features(volume[None, None])
        torch.testing.assert_close(encoder(volume[None, None])[0], embedding)
    for mine, expected in zip(ours, blocks, strict=True):
        torch.testing.assert_close(mine[0], expected)


def test_the_relative_positions_matter_in_every_table():
    """Guards the comparison above: a table without effect could not be seen there."""
    encoder = randomise(ImageEncoder3D(**SMALL))
    volume = random(1, 1, 12, 12, 12)
    with torch.no_grad():
        before = encoder(volume)
        for name, table in encoder.named_parameters():
            if "rel_pos" in name:
                kept = table.clone()
                table.copy_(table.flip(0))
                assert not torch.allclose(encoder(volume), before), name
                table.copy_(kept)


def test_keys_are_the_published_ones():
    block = {f"{part}.{kind}" for part in ("norm1", "norm2", "mlp.lin1", "mlp.lin2") for kind in ("weight", "bias")}
    block |= {f"attn.{name}" for name in ("qkv.weight", "qkv.bias", "proj.weight", "proj.bias")}
    block |= {f"attn.rel_pos_{axis}" for axis in "dhw"}
    keys = {f"blocks.{i}.{key}" for i in range(3) for key in block}
    keys |= {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "neck.0.weight", "neck.2.weight"}
    keys |= {f"neck.{i}.{kind}" for i in (1, 3) for kind in ("weight", "bias")}
    state = ImageEncoder3D(**SMALL).state_dict()
    assert set(state) == keys
    assert state["blocks.0.attn.rel_pos_d"].shape == (2 * SMALL["window_size"] - 1, 6)
    assert state["blocks.1.attn.rel_pos_d"].shape == (2 * 3 - 1, 6)


@pytest.mark.parametrize("shape", [(16, 16, 16), (8, 8, 8), (4, 4, 4), (8, 12, 20), (20, 4, 12)])
def test_other_grids(shape):
    encoder = randomise(ImageEncoder3D(**SMALL))
    volume = random(1, 1, *shape)
    with torch.no_grad():
        embedding = encoder(volume)
    assert embedding.shape == (1, 6, *(n // 4 for n in shape))
    assert embedding.isfinite().all()
    assert embedding.std() > 0


def test_a_constant_table_on_a_grid_that_is_no_cube():
    """With one q and one embedding for every distance, a term is the same number wherever it is read."""
    attention = randomise(RelativeAttention(8, 2, 3))
    with torch.no_grad():
        for axis, value in zip("dhw", (0.1, 0.2, 0.3), strict=True):
            getattr(attention, f"rel_pos_{axis}").fill_(value)
        bias = attention._bias(torch.ones(1, 2, 2, 3, 5, 4, dtype=torch.double))
    torch.testing.assert_close(bias, torch.full((1, 2, 30, 30), 4 * 0.6, dtype=torch.double))


def test_gradients_reach_every_parameter():
    encoder = randomise(ImageEncoder3D(**SMALL)).train()
    encoder(random(1, 1, 12, 12, 12)).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_batch_is_its_volumes():
    encoder = randomise(ImageEncoder3D(**SMALL))
    volumes = random(3, 1, 12, 12, 12)
    with torch.no_grad():
        together = encoder(volumes)
        alone = torch.cat([encoder(volume[None]) for volume in volumes])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 0), (torch.float32, 1e-4), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("size", [12, 16])
def test_dtypes(dtype, tolerance, size):
    encoder = ImageEncoder3D(**SMALL).double().eval()
    volume = random(1, 1, size, size, size)
    with torch.no_grad():
        expected = encoder(volume)
        ours = encoder.to(dtype)(volume.to(dtype))
    assert ours.dtype == dtype
    assert (ours.double() - expected).abs().max() <= tolerance * expected.abs().max()


def test_without_relative_positions():
    encoder = ImageEncoder3D(**SMALL, use_rel_pos=False)
    assert not [key for key in encoder.state_dict() if "rel_pos" in key]
    assert encoder(torch.zeros(1, 1, 12, 12, 12)).shape == (1, 6, 3, 3, 3)


@pytest.mark.parametrize("grid", [(5, 5, 5), (4, 3, 7), (1, 2, 3)])
def test_windows_there_and_back(grid):
    x = random(2, *grid, 3)
    windows = split_windows(x, 3)
    counts = [-(-n // 3) for n in grid]
    assert windows.shape == (2 * counts[0] * counts[1] * counts[2], 3, 3, 3, 3)
    torch.testing.assert_close(windows.sum(), x.sum())
    torch.testing.assert_close(join_windows(windows, grid), x)


@pytest.mark.parametrize("shape", [(1, 1, 12, 12, 13), (1, 1, 12, 0, 12), (1, 12, 12, 12)])
def test_a_volume_that_patches_do_not_fill(shape):
    with pytest.raises(ValueError, match="multiples of the patch, 4"):
        ImageEncoder3D(**SMALL)(torch.zeros(shape))


def test_heads_that_do_not_divide_the_channels():
    with pytest.raises(ValueError, match="12 channels cannot be divided among 5 heads"):
        ImageEncoder3D(**{**SMALL, "num_heads": 5})
