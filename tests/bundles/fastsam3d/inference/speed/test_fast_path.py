# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The fast path computes what the plain network computes, and never with yesterday's weights."""

import copy
import importlib
import sys
from pathlib import Path

import monai
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from torch import nn

from bundles.fastsam3d.scripts.inference.decoding import CubeMemory, CubePrompt, decode_clicks
from bundles.fastsam3d.scripts.inference.speed.fast_path import FastPath, choose_precision, prepare_for_inference
from bundles.fastsam3d.scripts.inference.speed.few_tokens import ImageToTokens, TokensToImage
from bundles.fastsam3d.scripts.inference.speed.layers import (
    OneDNNConvolution,
    PackedLinear,
    PairedConvolution,
    PatchProduct,
    can_pack,
    can_pair,
    faster,
)
from bundles.fastsam3d.scripts.inference.speed.refiner import FastRefiner, unet_parts
from bundles.fastsam3d.scripts.networks.fastsam3d import FastSAM3D
from bundles.fastsam3d.scripts.networks.mask_decoder import Attention, MaskDecoder3D, SplitCells, from_cells, to_cells
from bundles.fastsam3d.scripts.networks.prompt_encoder import PromptEncoder3D
from bundles.fastsam3d.scripts.networks.refiner import Refiner
from bundles.fastsam3d.scripts.networks.student import ConvStem3D, StudentEncoder3D
from common.weights import weights_key
from tools.bundle_network import build_network

ROOT = Path(__file__).resolve().parents[5]
WEIGHTS = ROOT / "bundles" / "fastsam3d" / "models" / "model.pt"
DATA = ROOT.parent / "shared" / "data"
CPU = torch.device("cpu")
# Of the largest value: bfloat16 keeps 8 bits of each number, and hundreds of them are added up.
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.03}


def small_network(stem: bool = False) -> FastSAM3D:
    """Paper form with a single-convolution patch embedding, or the bundle's form with a stem and skips."""
    torch.manual_seed(0)
    form = {"stem": ConvStem3D((4, 8), 48), "order": "morton", "patterns": ((8, 1), (8, 2), (None, 1))} if stem else {}
    encoder = StudentEncoder3D(32, 8, 48, depth=3, ffn_blocks=1, out_channels=24, **form)
    decoder = MaskDecoder3D(24, heads=4, mlp_dim=32, skip_channels=(8, 4) if stem else ())
    network = FastSAM3D(encoder, PromptEncoder3D(24, boxes=True), decoder).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def prompts() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two objects of three clicks with a last mask each."""
    return torch.rand(2, 3, 3) * 32, torch.tensor([[1, 0, 1], [1, 1, 0]]), torch.randn(2, 1, 16, 16, 16)


@pytest.mark.parametrize("stem", [False, True])
@pytest.mark.parametrize("precision", TOLERANCE)
def test_prepared_network_equals_the_plain_one(precision, stem):
    network = small_network(stem)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    fast = prepare_for_inference(network, precision)
    assert any(isinstance(m, TokensToImage) for m in fast.modules())
    volume = torch.randn(1, 1, 32, 32, 32)
    points, labels, masks = prompts()
    with torch.inference_mode():
        expected, got = network.encode(volume), fast.encode(volume)
        wanted, iou = network.decode(expected, points, labels, masks=masks)
        logits, fast_iou = fast.decode(got, points, labels, masks=masks)
    assert got.features.dtype == (torch.float32 if precision == "float32" else torch.bfloat16)
    for a, b in ((got.features, expected.features), (logits, wanted)):
        assert (a.float() - b).abs().max() <= TOLERANCE[precision] * b.abs().max()
    # A share of 1: of a value near 0 half precision keeps less.
    assert (fast_iou.float() - iou).abs().max() <= TOLERANCE[precision]
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_layers_are_replaced():
    kinds = [type(m) for m in prepare_for_inference(small_network(), "bfloat16").modules()]
    assert PatchProduct in kinds and SplitCells not in kinds
    if can_pack(torch.zeros(1, dtype=torch.bfloat16)):
        assert PackedLinear in kinds


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
@pytest.mark.parametrize("innermost", [False, True])
@pytest.mark.parametrize("form", [{}, {"stride": 2}, {"bias": False}, {"groups": 2}, {"dilation": 2, "padding": 2}])
def test_convolutions_of_every_form_are_computed_by_onednn(form, innermost):
    torch.manual_seed(0)
    plain = nn.Conv3d(4, 6, 3, **{"padding": 1, **form})
    x = torch.randn(2, 4, 7, 10, 9)
    if innermost:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        expected = plain(x)
        fast = faster(nn.Sequential(plain))
        assert isinstance(fast[0], PairedConvolution if can_pair(plain) else OneDNNConvolution)
        torch.testing.assert_close(fast(x), expected)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
@pytest.mark.parametrize("size", [(6, 7, 8), (5, 4, 7), (2, 2, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_two_voxels_at_a_time_are_convolved_as_one_is(size, bias):
    torch.manual_seed(0)
    plain = nn.Conv3d(5, 3, 3, padding=1, bias=bias)
    x = torch.randn(2, 5, *size).contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        got = PairedConvolution(plain)(x)
        torch.testing.assert_close(got, plain(x))
    assert got.is_contiguous(memory_format=torch.channels_last_3d)


def test_pairs_are_for_few_outputs_of_wide_registers(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    there = torch.backends.mkldnn.is_available()
    assert can_pair(nn.Conv3d(5, 8, 3, padding=1)) == there
    for form in ({"stride": 2}, {"padding": 0}, {"padding": 2, "dilation": 2}, {"groups": 8}):
        assert not can_pair(nn.Conv3d(8, 8, 3, **{"padding": 1, **form})), form
    assert not can_pair(nn.Conv3d(5, 16, 3, padding=1)) and not can_pair(nn.Conv3d(5, 8, 1))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not can_pair(nn.Conv3d(5, 8, 3, padding=1))


@pytest.mark.parametrize(
    "form", [{"padding": "same"}, {"padding": 1, "padding_mode": "reflect"}, {"dtype": torch.half}]
)
def test_other_convolutions_stay_torch_s_own(form):
    assert isinstance(faster(nn.Sequential(nn.Conv3d(4, 6, 3, **form)))[0], nn.Conv3d)


def refined_network() -> FastSAM3D:
    """The bundle's form in a small size, with a refiner and drawn prompts."""
    network = small_network(stem=True)
    refiner = Refiner(4, (8, 12, 16), embed_dim=network.prompt_encoder.no_mask_embed.embedding_dim, context=3)
    refined = FastSAM3D(network.image_encoder, network.prompt_encoder, network.mask_decoder, refiner, draw_prompts=True)
    with torch.no_grad():
        for parameter in refined.refiner.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return refined.eval()


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("precision", ["float32", "mixed", "bfloat16"])
def test_the_refiner_s_sums_add_up(precision, rounds):
    """With random weights, rounds of which each sees its own last answer: errors of half precision grow."""
    network = refined_network()
    fast = prepare_for_inference(network, precision)
    assert isinstance(fast.refiner, FastRefiner) and isinstance(network.refiner, Refiner)
    points, labels, masks = prompts()
    with torch.inference_mode():
        volume = torch.randn(1, 1, 32, 32, 32)
        plain, seen = network.encode(volume), fast.encode(volume)
        for boxes in (None, torch.tensor([[[3.0, 4, 5], [20, 22, 24]]] * 2)):
            for given in (masks, None):
                expected, iou = network.decode(plain, points, labels, boxes, given, rounds=rounds)
                logits, fast_iou = fast.decode(seen, points, labels, boxes, given, rounds=rounds)
                tolerance = 1e-4 if precision == "float32" else 0.03 * rounds
                assert (logits.float() - expected).abs().max() <= tolerance * expected.abs().max()
                assert (fast_iou.float() - iou).abs().max() <= tolerance


def test_mixed_computes_in_half_precision_what_bears_it():
    fast = prepare_for_inference(refined_network(), "mixed")
    dtypes = {name: p.dtype for name, p in fast.named_parameters()}
    half = {name for name, dtype in dtypes.items() if dtype == torch.bfloat16}
    assert half and set(dtypes.values()) == {torch.bfloat16, torch.float32}
    assert {name.split(".")[0] for name in half} == {"image_encoder", "refiner"}
    encoder = {name for name in dtypes if name.startswith("image_encoder.")}
    assert half & encoder == {name for name in encoder if ".mlp." in name}


def test_mixed_of_a_network_without_a_refiner_is_float32():
    fast = prepare_for_inference(small_network(stem=True), "mixed")
    assert {p.dtype for p in fast.parameters()} == {torch.float32}


@pytest.mark.parametrize("tokens", [1, 7, 40])
@pytest.mark.parametrize("objects", [1, 3])
def test_few_tokens_attend_as_many_do(tokens, objects):
    torch.manual_seed(0)
    attention = Attention(48, 4, 2)
    cells, queries, values = torch.randn(objects, 90, 48), torch.randn(objects, tokens, 48), torch.randn(1, 48)
    with torch.inference_mode():
        for few, given in (
            (TokensToImage(attention), (queries, cells, cells + values)),
            (ImageToTokens(attention), (cells, queries, queries + values)),
        ):
            torch.testing.assert_close(few(*given), attention(*given), rtol=1e-4, atol=1e-5)


def test_layers_are_known_by_name_where_modules_were_imported_anew(fastsam3d_path):
    """MONAI Label makes the network, forgets ``scripts``, and imports it again for the inferer."""
    parser = ConfigParser()
    parser.read_config(str(fastsam3d_path / "configs" / "inference.json"))
    parser["bundle_root"] = str(fastsam3d_path)
    network = parser.get_parsed_content("network_def").eval()
    for name in [n for n in sys.modules if n == "scripts" or n.startswith("scripts.")]:
        del sys.modules[name]
    inferer = parser.get_parsed_content("inferer")
    assert type(network) is not importlib.import_module("scripts.networks.fastsam3d").FastSAM3D
    fast, _ = inferer.segmenter.fast_path(network, CPU)
    kinds = [type(m).__name__ for m in fast.modules()]
    assert "SplitCells" not in kinds and "FastRefiner" in kinds
    assert kinds.count("TokensToImage") == 3 and kinds.count("ImageToTokens") == 2


def test_a_network_of_another_kind_is_left_alone(threshold_network):
    assert prepare_for_inference(threshold_network, "bfloat16") is threshold_network


@pytest.mark.parametrize(
    "amp, precision",
    [(False, "float32"), ("false", "float32"), (True, "bfloat16"), ("true", "bfloat16")],
)
def test_precision_on_a_cpu(amp, precision):
    assert choose_precision(amp, CPU) == precision


def test_auto_never_emulates(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert choose_precision("auto", CPU) == "float32"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert choose_precision("auto", CPU) == "bfloat16"


@pytest.mark.parametrize("amp", ["fast", 16, None])
def test_unknown_precision_is_refused(amp):
    with pytest.raises(ValueError, match="expected auto, true, false"):
        FastPath(amp)


@pytest.mark.parametrize("change", ["load_state_dict", "data", "buffer"])
def test_changed_weights_are_seen(change):
    network, path = small_network(), FastPath("bfloat16")
    volume = torch.randn(1, 1, 32, 32, 32)
    points, labels, _ = prompts()
    with torch.inference_mode():
        first, key = path(network, CPU)
        assert path(network, CPU) == (first, key)
    if change == "load_state_dict":
        network.load_state_dict({k: 1.5 * v for k, v in network.state_dict().items()})
    elif change == "data":
        # What averaging of weights does: autograd's version counters do not see it.
        network.image_encoder.neck[0].weight.data.mul_(-1)
        network.image_encoder.neck[0].weight.data[0] += 1
    else:
        network.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.mul_(0.5)
    with torch.inference_mode():
        second, new_key = path(network, CPU)
        assert new_key != key and second is not first
        got, _ = second.decode(second.encode(volume), points, labels)
        fresh = prepare_for_inference(network, "bfloat16")
        expected, _ = fresh.decode(fresh.encode(volume), points, labels)
        old, _ = first.decode(first.encode(volume), points, labels)
    assert torch.equal(got, expected) and not torch.equal(got, old)


def test_key_of_equal_weights_is_equal():
    network = small_network()
    assert weights_key(network) == weights_key(copy.deepcopy(network))
    assert weights_key(nn.Identity()) == ()


def test_cells_go_there_and_back():
    x = torch.arange(2 * 3 * 8 * 4 * 12.0).view(2, 3, 8, 4, 12)
    for depth in (0, 1, 2):
        cells = to_cells(x, depth)
        assert torch.equal(from_cells(cells, [n >> depth for n in x.shape[2:]], depth), x)
    # A cell's parts follow each other: the first 64 rows are the first cell's.
    assert torch.equal(to_cells(x, 2)[:, :64].sum(1), x[:, :, :4, :4, :4].sum((2, 3, 4)))


def test_split_cells_is_the_transposed_convolution():
    torch.manual_seed(0)
    split, x = SplitCells(6, 4), torch.randn(2, 6, 3, 2, 4)
    expected = nn.functional.conv_transpose3d(x, split.weight, split.bias, stride=2)
    assert torch.allclose(from_cells(split(to_cells(x)), (3, 2, 4), 1), expected, atol=1e-6)


def test_only_the_newest_click_is_decoded():
    network = small_network()
    points, labels, _ = prompts()
    with torch.inference_mode():
        memory = CubeMemory(network.encode(torch.randn(1, 1, 32, 32, 32)))
        two = decode_clicks(network, memory, [CubePrompt(points[0, :2], labels[0, :2])])
        assert memory.decoded == 2
        three = decode_clicks(network, memory, [CubePrompt(points[0], labels[0])])
        assert memory.decoded == 3
        other = decode_clicks(network, memory, [CubePrompt(points[0], 1 - labels[0])])
        assert memory.decoded == 6
        fresh = decode_clicks(network, CubeMemory(memory.embedding), [CubePrompt(points[0], labels[0])])
    assert torch.equal(three[0][0], fresh[0][0]) and three[0][1] == fresh[0][1]
    assert not torch.equal(two[0][0], three[0][0]) and not torch.equal(other[0][0], three[0][0])


def test_memory_is_bounded():
    memory = CubeMemory(None, size=2)
    for key in range(3):
        memory.keep((key,), (torch.zeros(1), 0.0))
    assert memory.recall((0,)) is None and memory.recall((2,)) is not None


@pytest.mark.skipif(not WEIGHTS.exists(), reason="models/model.pt is not there")
@pytest.mark.skipif(not (DATA / "totalseg_example").exists(), reason="../shared/data is not there")
def test_bfloat16_changes_masks_little():
    """Dice of the masks with bfloat16 against float32, in a cube of a real CT, after two clicks."""
    network = build_network().eval()
    network.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    volume = nib.load(DATA / "totalseg_example" / "example_ct.nii.gz").get_fdata(dtype=np.float32)
    low, high = np.percentile(volume, (0.5, 99.5))
    values = torch.from_numpy((np.clip(volume, low, high) - volume.mean()) / volume.std())[None, None]
    cube = values[..., 20:84, 20:84, 24:88].contiguous()
    fast = prepare_for_inference(network, "bfloat16")
    click = [CubePrompt(torch.tensor([[32.0, 32, 32], [20, 40, 30]]), torch.tensor([1, 0]))]
    with torch.inference_mode():
        masks = [decode_clicks(n, CubeMemory(n.encode(cube)), click)[0][0] > 0 for n in (network, fast)]
    assert masks[0].any()
    assert 2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum()) >= 0.99


def other_residual(unet):
    del unet.model[0].residual


def other_order(unet):
    adn = unet.model[0].conv.unit0.adn
    unet.model[0].conv.unit0.adn = nn.Sequential(adn.A, adn.N)


def other_sum(unet):
    first = unet.model[0]
    first.forward = lambda x: first.conv(x) + 2 * first.residual(x)


@pytest.mark.parametrize("change", [other_residual, other_sum])
def test_a_u_net_of_another_kind_is_refused(change):
    """As another version of MONAI may build it: its parts are known by names, and what they compute is compared."""
    torch.manual_seed(0)
    refiner = Refiner(4, (8, 8, 8), 8).eval()
    unet_parts(refiner.unet)
    change(refiner.unet)
    with pytest.raises(RuntimeError, match=f"MONAI {monai.__version__} builds its U-Net in another way"):
        FastRefiner(refiner, torch.float32)


def test_a_u_net_s_own_order_of_norm_and_activation_is_kept():
    torch.manual_seed(0)
    refiner = Refiner(4, (8, 8, 8), 8).eval()
    other_order(refiner.unet)
    convolution, activation, rest = unet_parts(refiner.unet)
    x = torch.randn(1, 11, 16, 16, 16)
    residual, main = convolution(x).chunk(2, dim=1)
    torch.testing.assert_close(rest(activation(main) + residual), refiner.unet(x))
