# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Adapted layers are what their formulas say: against the weight that they never build."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.svd_affine import SALT, LoRA, SVDAffine
from common.svd_affine.layer import factor

GOLDEN = Path("../shared/golden")

# A layer and the shape of an input; wide, tall and square, strides, paddings, dilations, 2D and 3D.
LAYERS = {
    "wide": (lambda: nn.Linear(5, 9), (2, 3, 5)),
    "tall": (lambda: nn.Linear(9, 4), (7, 9)),
    "square": (lambda: nn.Linear(6, 6, bias=False), (6,)),
    "conv1": (lambda: nn.Conv2d(6, 4, 1, bias=False), (2, 6, 3, 4)),
    "conv2d": (lambda: nn.Conv2d(3, 5, 3, stride=2, padding=1), (2, 3, 6, 5)),
    "many_outputs": (lambda: nn.Conv2d(1, 7, (1, 3), padding=(0, 2), dilation=(1, 2)), (1, 1, 4, 6)),
    "depthwise": (lambda: nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), (2, 6, 5, 4)),
    "groups": (lambda: nn.Conv2d(6, 9, (1, 3), stride=(1, 2), groups=3), (1, 6, 4, 7)),
    "conv3d": (lambda: nn.Conv3d(2, 5, 2, stride=(1, 2, 1), padding=1), (1, 2, 3, 4, 3)),
    "cells": (lambda: nn.ConvTranspose2d(6, 4, 2, stride=2), (2, 6, 3, 4)),
    "transposed2d": (
        lambda: nn.ConvTranspose2d(4, 5, (3, 2), stride=(2, 3), padding=(1, 0), output_padding=1, dilation=(1, 2)),
        (2, 4, 3, 4),
    ),
    "transposed3d": (lambda: nn.ConvTranspose3d(3, 2, 2, stride=(1, 2, 2), bias=False), (1, 3, 2, 3, 2)),
}
cases = pytest.mark.parametrize("name", LAYERS)


@pytest.fixture(autouse=True)
def same_weights():
    torch.manual_seed(0)


def make(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, torch.Tensor]:
    """The plain layer and an input."""
    layer, shape = LAYERS[name]
    return layer().to(dtype), torch.randn(shape, dtype=dtype)


@torch.no_grad()
def disturb(layer: nn.Module) -> nn.Module:
    """The layer with other trained numbers than it starts with; some singular values fall below zero."""
    for leaf in {"scale", "shift", "down", "up"} & dict(layer.named_parameters()).keys():
        parameter = layer.get_parameter(leaf)
        parameter += 0.5 * torch.randn_like(parameter)
    if isinstance(layer, SVDAffine):
        layer.shift[0] = -3 * layer.S[0]
    return layer


def plain_output(layer: nn.Module, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, layer.bias)
    if layer.transposed:
        convolve = F.conv_transpose2d if isinstance(layer, nn.ConvTranspose2d) else F.conv_transpose3d
        settings = (layer.stride, layer.padding, layer.output_padding, 1, layer.dilation)
        return convolve(x, weight, layer.bias, *settings)
    convolve = F.conv2d if isinstance(layer, nn.Conv2d) else F.conv3d
    return convolve(x, weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def built_weight(layer: SVDAffine, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """W' by the paper's formula, in matrices."""
    tuned = len(scale)
    values = torch.cat([(scale * layer.S[:tuned] + shift).clamp(min=0), layer.S[tuned:]])
    return (layer.U @ torch.diag(values) @ layer.V.flatten(1)).view(len(layer.U), *layer.V.shape[1:])


@cases
@pytest.mark.parametrize("adapted", [SVDAffine, LoRA, SALT])
def test_it_starts_as_the_plain_layer(name, adapted):
    plain, x = make(name)
    options = {} if adapted is SVDAffine else {"rank": 1}
    assert torch.allclose(adapted(plain, **options)(x), plain(x), rtol=0, atol=1e-12)


@cases
@pytest.mark.parametrize("values", [None, 1, 3, 0.5])
def test_output_and_gradients_of_the_built_weight(name, values):
    plain, x = make(name)
    layer = disturb(SVDAffine(plain, values))
    inputs = [x.requires_grad_(), layer.scale, layer.shift] + ([plain.bias] if plain.bias is not None else [])
    y = layer(x)
    expected = plain_output(plain, x, built_weight(layer, layer.scale, layer.shift))
    assert torch.allclose(y, expected, rtol=0, atol=1e-12)
    along = torch.randn_like(y)
    ours, theirs = (torch.autograd.grad(out, inputs, along) for out in (y, expected))
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, rtol=0, atol=1e-11)
    assert len(layer.scale) == {None: len(layer.S), 1: 1, 3: 3, 0.5: -(-len(layer.S) // 2)}[values]


@pytest.mark.parametrize("name", ["wide", "tall", "conv2d", "conv3d", "cells", "transposed2d"])
@pytest.mark.parametrize("values", [None, 2])
def test_gradients_by_differences(name, values):
    plain, x = make(name)
    layer = SVDAffine(plain, values)
    trained = {"scale": 1 + 0.1 * torch.rand_like(layer.scale), "shift": 0.1 * torch.rand_like(layer.shift)}
    trained = {key: value.detach().requires_grad_() for key, value in trained.items()}

    def run(x, scale, shift, bias):
        return torch.func.functional_call(layer, {"scale": scale, "shift": shift, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(run, (x.requires_grad_(), *trained.values(), plain.bias))


def test_a_second_derivative_is_refused_and_not_wrong():
    plain, x = make("wide")
    layer = SVDAffine(plain)
    (first,) = torch.autograd.grad(layer(x.requires_grad_()).pow(2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@cases
def test_only_what_needs_a_gradient_gets_one(name):
    plain, x = make(name)
    layer = SVDAffine(plain.requires_grad_(False))
    layer(x).sum().backward()
    assert layer.scale.grad is not None and layer.shift.grad is not None
    assert x.grad is None and plain.weight.grad is None
    assert [n for n, p in layer.named_parameters() if p.grad is not None] == ["scale", "shift"]
    layer.requires_grad_(False)
    layer(x.requires_grad_()).sum().backward()
    assert x.grad is not None


def saved_bytes(run) -> int:
    """What a forward pass keeps for backward, parameters and buffers apart."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module, y = run()
    for tensor in [*module.parameters(), *module.buffers()]:
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    assert y.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("values", [None, 4])
@pytest.mark.parametrize(
    ("plain", "shape", "places"),
    [
        (nn.Linear(256, 64), (10, 256), 10),
        (nn.Linear(64, 256), (10, 64), 10),
        (nn.Conv2d(32, 16, 3, padding=1), (1, 32, 8, 8), 64),
        (nn.ConvTranspose2d(32, 16, 2, stride=2), (1, 32, 8, 8), 64),
    ],
)
def test_it_keeps_no_weight_and_no_input(plain, shape, places, values, amp):
    """Only the projection on the tuned singular vectors, and a few numbers for each singular value."""
    layer = SVDAffine(plain, values)
    x = torch.randn(shape, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        kept = saved_bytes(lambda: (layer, layer(x)))
    assert kept <= places * len(layer.scale) * (2 if amp else 4) + 16 * len(layer.S)


@cases
@pytest.mark.parametrize("adapted", [SVDAffine, LoRA, SALT])
def test_merged_is_the_plain_layer_of_the_same_output(name, adapted):
    plain, x = make(name)
    layer = disturb(adapted(plain, **({} if adapted is SVDAffine else {"rank": 2 if name != "many_outputs" else 1})))
    before = layer(x)
    merged = layer.merge()
    assert type(merged) is type(plain)
    assert merged.state_dict().keys() == plain.state_dict().keys()
    assert merged.weight.shape == plain.weight.shape and not merged.weight.requires_grad
    assert merged.bias is plain.bias
    assert torch.allclose(merged(x), before, rtol=0, atol=1e-12)
    assert torch.equal(layer(x), before)
    assert not torch.allclose(merged(x), plain(x), atol=1e-3)


def test_the_other_singular_values_stay():
    plain, _ = make("wide")
    layer = disturb(SVDAffine(plain, 2))
    values = torch.linalg.svdvals(layer.whole_weight())
    original = torch.linalg.svdvals(plain.weight)
    assert torch.allclose(layer.singular_values()[2:], original[2:], rtol=0, atol=1e-12)
    assert all((values - kept).abs().min() < 1e-12 for kept in original[2:])


def test_a_singular_value_never_gets_negative():
    layer = SVDAffine(nn.Linear(4, 4).double())
    with torch.no_grad():
        layer.shift.fill_(-100)
    assert torch.equal(layer.singular_values(), torch.zeros(4, dtype=torch.float64))
    assert torch.count_nonzero(layer.whole_weight()) == 0
    layer(torch.randn(2, 4, dtype=torch.float64)).sum().backward()
    assert torch.count_nonzero(layer.scale.grad) == 0


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_it_works_in_the_layers_own_dtype(dtype, limit):
    plain, x = make("wide", dtype)
    layer = SVDAffine(plain)
    assert {p.dtype for p in (*layer.parameters(), *layer.buffers())} == {dtype}
    assert layer.reconstruction_error < limit
    y = layer(x.requires_grad_())
    assert y.dtype == dtype
    y.sum().backward()
    assert x.grad.dtype == layer.scale.grad.dtype == layer.bias.grad.dtype == dtype
    assert torch.allclose(y.float(), plain(x).float(), rtol=0, atol=20 * limit)
    assert layer.merge().weight.dtype == dtype


@pytest.mark.parametrize("name", ["wide", "tall", "conv2d", "conv3d", "cells", "transposed2d"])
def test_autocast_gives_the_same_but_for_rounding(name):
    plain, x = make(name, torch.float32)
    layer = SVDAffine(plain)
    x.requires_grad_()
    inputs = [x, layer.scale, layer.shift, plain.bias]
    exact = layer(x)
    along = torch.randn_like(exact)
    expected = torch.autograd.grad(exact, inputs, along)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer(x)
    assert rounded.dtype == torch.bfloat16
    assert torch.allclose(rounded.float(), exact, rtol=0, atol=0.03 * exact.abs().max().item())
    # As in a training loop, the backward pass runs outside of autocast.
    for got, want in zip(torch.autograd.grad(rounded, inputs, along.bfloat16()), expected, strict=True):
        assert got.dtype == want.dtype == torch.float32
        assert torch.allclose(got, want, rtol=0, atol=0.03 * want.abs().max().item())


def test_the_regularisation():
    layer = SVDAffine(nn.Linear(4, 4))
    assert layer.regularisation() == 0
    with torch.no_grad():
        layer.scale[0] += 3
        layer.scale[1] -= 4
        layer.shift[2] = 2
    assert layer.regularisation().item() == pytest.approx(5 + 2)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the reference files (../shared/golden) are not here")
@pytest.mark.parametrize("name", ["linear_wide", "linear_tall", "conv1x1", "conv3x3"])
def test_it_is_the_published_layer(name):
    with np.load(GOLDEN / f"svdsam_{name}.npz", allow_pickle=False) as file:
        config = json.loads(file["config"].tobytes())
        arrays = {key: torch.from_numpy(file[key]) for key in file.files if key != "config"}
    weight = arrays["state/weight"]
    outputs, inputs = weight.shape[:2]
    plain = nn.Linear(inputs, outputs, bias="state/bias" in arrays)
    if weight.ndim == 4:
        plain = nn.Conv2d(inputs, outputs, weight.shape[-1], config["stride"], config["padding"], bias=False)
    plain.load_state_dict({k: arrays[f"state/{k}"] for k in ("weight", "bias") if f"state/{k}" in arrays})
    layer = SVDAffine(plain)
    with torch.no_grad():
        layer.scale.copy_(arrays["state/trainable_scale"])
        layer.shift.copy_(arrays["state/trainable_shift"])
    y = arrays["out/y"]
    for output in layer(arrays["in/x"]), layer.merge()(arrays["in/x"]):
        assert (output - y).abs().max() <= 1e-4 * y.abs().max()
    assert layer.regularisation().item() == pytest.approx(arrays["out/reg"].item(), rel=1e-5)


def test_salt_adds_a_low_rank_matrix():
    plain, x = make("wide")
    layer = disturb(SALT(plain, 2, rank=3))
    expected = built_weight(layer, layer.scale, layer.shift) + layer.up @ layer.down
    assert torch.allclose(layer(x), F.linear(x, expected, plain.bias), rtol=0, atol=1e-12)
    trained = {n for n, p in layer.named_parameters() if n != "bias"}
    assert trained == {"scale", "shift", "down", "up"}


def test_lora_is_of_its_rank():
    plain, _ = make("conv2d")
    layer = disturb(LoRA(plain, 2))
    change = (layer.merge().weight - plain.weight).flatten(1)
    assert torch.linalg.matrix_rank(change) == 2


def test_a_weight_of_zeros_is_a_weight():
    plain = nn.Linear(3, 2)
    nn.init.zeros_(plain.weight)
    layer = SVDAffine(plain)
    assert layer.reconstruction_error == 0
    assert torch.equal(layer(torch.ones(1, 3)), plain.bias[None])


def test_factors_that_lose_the_weight_are_refused(monkeypatch):
    svd = torch.linalg.svd
    monkeypatch.setattr(torch.linalg, "svd", lambda *a, **k: tuple(1.001 * part for part in svd(*a, **k)))
    with pytest.raises(ValueError, match="differs from the weight by 3.0e-03"):
        factor(torch.randn(4, 4))


def with_nan() -> nn.Module:
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        layer.weight[0, 0] = float("nan")
    return layer


@pytest.mark.parametrize(
    ("make_layer", "message"),
    [
        (lambda: SVDAffine(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")), "reflect"),
        (lambda: SVDAffine(nn.Conv2d(4, 4, 3, padding="same")), "'same'"),
        (lambda: SVDAffine(nn.Conv1d(4, 4, 2)), "Conv1d"),
        (lambda: SVDAffine(nn.ConvTranspose2d(4, 4, 2, groups=2)), "groups=2"),
        (lambda: SVDAffine(nn.MultiheadAttention(4, 2).out_proj), "NonDynamicallyQuantizableLinear"),
        (lambda: SVDAffine(nn.LayerNorm(4)), "LayerNorm"),
        (lambda: SVDAffine(with_nan()), "NaN"),
        (lambda: SVDAffine(nn.Linear(4, 6), 5), "from 1 to 4"),
        (lambda: SVDAffine(nn.Linear(4, 6), 0), "values=0"),
        (lambda: SVDAffine(nn.Linear(4, 6), 1.5), "values=1.5"),
        (lambda: SVDAffine(nn.Linear(4, 6), True), "values=True"),
        (lambda: LoRA(nn.Linear(4, 6), 0), "rank=0"),
        (lambda: LoRA(nn.Linear(4, 6), 5), "from 1 to 4"),
        (lambda: SALT(nn.Linear(4, 6), 2, 2.0), "rank=2.0"),
    ],
)
def test_what_cannot_be_adapted_is_refused(make_layer, message):
    with pytest.raises(ValueError, match=message):
        make_layer()
