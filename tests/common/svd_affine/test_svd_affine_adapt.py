# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Adapters: trained, saved, loaded on a fresh base, switched, blended; and refused where they do not belong."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from bundles.ssam_2d.scripts.networks.sam import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer
from common.svd_affine import Adaptation, Adapter, SVDAffine, adapt, adapt_like, blend, layer
from common.svd_affine.adapter import LABELS, content_hash

TARGETS = ["blocks.*.lin?", "neck"]
TRAINABLE = ["*norm.*", "position", "text.*"]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.lin1 = nn.Linear(6, 10)
        self.lin2 = nn.Linear(10, 6)

    def forward(self, x):
        return x + self.lin2(F.gelu(self.lin1(self.norm(x))))


class Network(nn.Module):
    """The kinds of parts that S-SAM has: blocks, a neck, a position, a text layer with running statistics."""

    def __init__(self, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.position = nn.Parameter(torch.randn(5, 6))
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.neck = nn.Conv2d(6, 4, 1)
        self.text = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4))
        self.register_buffer("code", torch.randn(4))

    def forward(self, x, text):
        x = x + self.position
        for block in self.blocks:
            x = block(x)
        x = self.neck(x.permute(0, 2, 1)[..., None])[..., 0].transpose(1, 2)
        return (x * self.code) @ self.text(text).t()


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(2, 5, 6, generator=generator), torch.randn(3, 3, generator=generator)


def adapted(method: str = "svd_affine", seed: int = 0, trainable: list[str] = TRAINABLE, **options) -> Adaptation:
    targets = [] if method == "selection" else TARGETS
    return adapt(Network(seed), method, targets, trainable=trainable, **options)


def train(adaptation: Adaptation, seed: int = 1, steps: int = 3) -> Adaptation:
    """A few steps towards noise; enough to move everything that is trained."""
    torch.manual_seed(seed)
    adaptation.module.train()
    optimiser = torch.optim.Adam(adaptation.trainable().values(), lr=0.05)
    image, text = inputs()
    for _ in range(steps):
        loss = (adaptation.module(image, text) - torch.randn(2, 5, 3)).pow(2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    adaptation.module.eval()
    return adaptation


@torch.no_grad()
def logits(adaptation: Adaptation) -> torch.Tensor:
    return adaptation.module.eval()(*inputs())


METHODS = [
    ("svd_affine", {}),
    ("svd_affine", {"values": 0.5}),
    ("lora", {"rank": 2}),
    ("salt", {"values": 3, "rank": 2}),
    ("selection", {"trainable": ["*"]}),
    ("selection", {"trainable": ["*norm*"]}),
    ("selection", {"trainable": ["text.*", "neck.*"]}),
]
all_methods = pytest.mark.parametrize(("method", "options"), METHODS)


@all_methods
def test_train_save_load_on_a_fresh_base_and_merge(method, options, tmp_path):
    trained = train(adapted(method, **options))
    expected = logits(trained)
    trained.take({"polyp": torch.ones(3)}).save(tmp_path / "a.safetensors")

    fresh = adapted(method, **options)
    assert not torch.allclose(logits(fresh), expected, atol=1e-2)
    loaded = Adapter.load(tmp_path / "a.safetensors")
    fresh.put(loaded)
    assert torch.allclose(logits(fresh), expected, rtol=0, atol=1e-5)
    fresh.merge()
    assert torch.allclose(logits(fresh), expected, rtol=0, atol=1e-5)
    assert fresh.module.state_dict().keys() == Network().state_dict().keys()
    plain = Network(7)
    plain.load_state_dict(fresh.module.state_dict())
    assert torch.allclose(plain.eval()(*inputs()), expected, rtol=0, atol=1e-5)
    fresh.unmerge()
    assert torch.equal(logits(fresh), logits(trained))
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@all_methods
def test_only_what_was_named_is_trained(method, options):
    adaptation = adapted(method, **options)
    before = {name: tensor.clone() for name, tensor in adaptation.module.state_dict().items()}
    train(adaptation)
    changed = {name for name, tensor in adaptation.module.state_dict().items() if not torch.equal(tensor, before[name])}
    trainable = adaptation.trainable()
    assert trainable.keys() == {n for n, p in adaptation.module.named_parameters() if p.requires_grad}
    assert (
        trainable.keys()
        <= changed
        <= adaptation.take().tensors.keys()
        | {"text.2.running_mean"}
        | {f"text.2.{leaf}" for leaf in ("running_var", "num_batches_tracked")}
    )
    assert adaptation.count() == sum(p.numel() for p in trainable.values())


def test_the_adapter_holds_what_is_tuned_and_no_more():
    tensors = adapted().take().tensors
    lines = [f"blocks.{i}.lin{j}" for i in (0, 1) for j in (1, 2)] + ["neck"]
    expected = {f"{line}.{leaf}" for line in lines for leaf in ("scale", "shift")}
    expected |= {f"blocks.{i}.norm.{leaf}" for i in (0, 1) for leaf in ("weight", "bias")} | {"position"}
    expected |= {f"text.{i}.{leaf}" for i in (0, 2) for leaf in ("weight", "bias")}
    expected |= {f"text.2.{leaf}" for leaf in ("running_mean", "running_var", "num_batches_tracked")}
    assert tensors.keys() == expected
    assert adapted().count() == 2 * (4 * 6 + 4) + 4 * 6 + 30 + (3 * 4 + 4) + 8


def test_the_state_dict_of_an_adapted_network_is_complete():
    trained = train(adapted())
    other = adapted(seed=3)
    other.module.load_state_dict(trained.module.state_dict())
    assert torch.equal(logits(other), logits(trained))


def test_labels_travel_in_order(tmp_path):
    labels = {"grey matter": torch.tensor([1.0, 2.0]), "Gallenblase ä": torch.tensor([3.0, 4.0]), "a": torch.zeros(2)}
    adapted().take(labels).save(tmp_path / "a.safetensors")
    loaded = Adapter.load(tmp_path / "a.safetensors")
    assert list(loaded.labels) == list(labels)
    assert all(torch.equal(loaded.labels[name], labels[name]) for name in labels)
    with pytest.raises(ValueError, match="one vector"):
        adapted().take({"a": torch.zeros(2), "b": torch.zeros(3)})


def test_switching_adapters_on_one_base():
    one, two = (train(adapted(), seed) for seed in (1, 2))
    first, second, outputs = one.take(), two.take(), (logits(one), logits(two))
    adaptation = adapted()
    start = logits(adaptation)
    for merged in False, True:
        if merged:
            adaptation.merge()
        for chosen, expected in zip((first, second, first), (*outputs, outputs[0]), strict=True):
            with adaptation.using(chosen) as network:
                assert torch.allclose(network(*inputs()), expected, rtol=0, atol=1e-5)
            assert torch.allclose(logits(adaptation), start, rtol=0, atol=0 if not merged else 1e-6)
        assert adaptation.merged == merged
    with pytest.raises(RuntimeError, match="in the call"), adaptation.using(first):
        raise RuntimeError("in the call")
    assert torch.allclose(logits(adaptation), start, rtol=0, atol=1e-6)


def test_a_merged_network_may_move_before_it_is_unmerged():
    adaptation = adapted()
    adaptation.merge()
    adaptation.module.double()
    adaptation.unmerge()
    assert {t.dtype for t in adaptation.module.state_dict().values() if t.is_floating_point()} == {torch.float64}
    assert adaptation.module(*(x.double() for x in inputs())).dtype == torch.float64


def test_blending():
    one, two = (train(adapted(), seed, steps=1).take({f"only {seed}": torch.ones(2)}) for seed in (1, 2))
    assert all(torch.equal(t, one.tensors[n]) for n, t in blend([one, two], [1, 0]).tensors.items())
    half = blend([one, two], [0.25, 0.75])
    for name in "neck.scale", "position", "text.2.running_var":
        assert torch.allclose(half.tensors[name], 0.25 * one.tensors[name] + 0.75 * two.tensors[name], atol=1e-6)
    assert half.tensors["text.2.num_batches_tracked"].dtype == torch.int64
    assert list(half.labels) == ["only 1", "only 2"]
    adaptation = adapted()
    adaptation.put(half)
    merged = {}
    for which in one, two, half:
        adaptation.put(which)
        merged[id(which)] = adaptation.layers["neck"].whole_weight()
        assert adaptation.layers["neck"].singular_values().min() > 0
    assert torch.allclose(merged[id(half)], 0.25 * merged[id(one)] + 0.75 * merged[id(two)], atol=1e-6)


def test_a_label_that_both_know_is_blended():
    one, two = (adapted().take({"a": torch.full((2,), value)}) for value in (1.0, 3.0))
    assert torch.equal(blend([one, two], [0.5, 0.5]).labels["a"], torch.full((2,), 2.0))


@pytest.mark.parametrize(
    ("weights", "change", "message"),
    [
        ([1.0], {}, "one weight for each"),
        ([0.5, 0.6], {}, "a sum of 1"),
        ([1.5, -0.5], {}, "none below 0"),
        ([0.5, 0.5], {"base": "f" * 64}, "of one base"),
        ([0.5, 0.5], {"method": "lora (rank=4)"}, "of one method"),
        ([0.5, 0.5], {"tensors": {}}, "missing"),
    ],
)
def test_blends_that_mean_nothing_are_refused(weights, change, message):
    one = adapted().take()
    with pytest.raises(ValueError, match=message):
        blend([one, replace(one, **change)], weights)


def without_tensor(one: Adapter) -> Adapter:
    return replace(one, tensors={name: t for name, t in one.tensors.items() if name != "neck.shift"})


def with_tensor(one: Adapter) -> Adapter:
    return replace(one, tensors=one.tensors | {"tail.scale": torch.ones(2)})


def with_shape(one: Adapter) -> Adapter:
    return replace(one, tensors=one.tensors | {"position": torch.ones(7, 6)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: adapted(seed=1).take(), "an adapter of the base"),
        (lambda: adapted("lora").take(), r"method lora \(rank=4\); this network is adapted by svd_affine"),
        (lambda: adapted(values=2).take(), "values=2"),
        (lambda: without_tensor(adapted().take()), "neck.shift is missing"),
        (lambda: with_tensor(adapted().take()), "tail.scale is not expected"),
        (lambda: with_shape(adapted().take()), r"position has shape \(7, 6\), expected \(5, 6\)"),
        (lambda: adapted(trainable=["text.*"]).take(), "blocks.0.norm.bias is missing.*and 1 more"),
    ],
)
def test_an_adapter_that_does_not_belong_is_refused(make, message):
    adaptation = train(adapted())
    before = logits(adaptation)
    with pytest.raises(ValueError, match=message):
        adaptation.put(make())
    assert torch.equal(logits(adaptation), before)


@pytest.mark.parametrize("name", ["code", "blocks.1.lin2.weight", "blocks.1.lin2.bias"])
def test_the_base_is_every_frozen_tensor(name):
    network = Network()
    with torch.no_grad():
        network.state_dict()[name].view(-1)[-1] += 1e-3
    assert adapt(network, "svd_affine", TARGETS, trainable=TRAINABLE).base != adapted().base


@pytest.mark.parametrize("name", ["position", "text.0.weight", "text.2.running_var", "blocks.0.norm.weight"])
def test_the_base_is_no_tensor_of_the_adapter(name):
    network = Network()
    with torch.no_grad():
        network.state_dict()[name].add_(1)
    assert adapt(network, "svd_affine", TARGETS, trainable=TRAINABLE).base == adapted().base


def test_the_base_does_not_depend_on_the_method_or_on_training():
    assert adapted("lora").base == adapted("salt").base == adapted().base == train(adapted()).base


def test_the_hash_is_of_names_shapes_dtypes_and_values():
    x = torch.arange(6.0)
    hashes = {content_hash({"a": t}) for t in (x, x.view(2, 3), x.double(), x.bfloat16(), x + 1)} | {
        content_hash({"b": x})
    }
    assert len(hashes) == 6
    scalar = torch.tensor(3)
    assert content_hash({"b": scalar, "a": x}) == content_hash({"a": torch.stack([x, x], 1)[:, 0], "b": scalar})


def saved(path, tensors=None, **metadata) -> None:
    good = {"format": "svd_affine.adapter", "version": "1", "method": "lora", "base": "0", "labels": "[]"}
    save_file(tensors or {"a": torch.ones(2)}, path, good | metadata)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": "pt"}, "no adapter"),
        ({"version": "2"}, "version 2; this code reads 1"),
        ({"labels": '["a"]'}, "1 label names, but the features of 0"),
    ],
)
def test_a_file_that_is_no_adapter_is_refused(metadata, message, tmp_path):
    path = tmp_path / "a.safetensors"
    saved(path)
    assert Adapter.load(path).tensors.keys() == {"a"}
    saved(path, **metadata)
    with pytest.raises(ValueError, match=message):
        Adapter.load(path)


def test_a_broken_or_missing_file(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"no safetensors at all")
    with pytest.raises(ValueError, match="no sound safetensors"):
        Adapter.load(path)
    with pytest.raises(FileNotFoundError):
        Adapter.load(tmp_path / "missing.safetensors")


def test_an_adapter_with_numbers_that_are_none(tmp_path):
    path = tmp_path / "a.safetensors"
    saved(path, tensors={"a": torch.tensor([1.0, torch.inf])})
    with pytest.raises(ValueError, match="1 of 1 tensors hold NaN or infinite numbers .a.; expected"):
        Adapter.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.safetensors"
    adapted().take().save(path)
    before = path.read_bytes()
    with patch.object(Path, "write_bytes", side_effect=OSError("disk full")), pytest.raises(OSError):
        adapted("lora").take().save(path)
    assert path.read_bytes() == before


def test_whoever_may_read_other_files_may_read_adapters(tmp_path):
    (tmp_path / "other").touch()
    adapted().take().save(tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize(
    ("method", "targets", "options", "message"),
    [
        ("svd", TARGETS, {}, "expected svd_affine, lora, salt or selection"),
        ("svd_affine", [], {}, "the others need some"),
        ("selection", TARGETS, {}, "selection takes none"),
        ("svd_affine", ["blocks.*.lin3"], {}, "no layer matches 'blocks.*.lin3'; there are 6.*blocks.0.lin1"),
        ("lora", TARGETS, {"trainable": ["nrom.*"]}, "no parameter matches 'nrom"),
        ("lora", TARGETS, {"rank": 5}, "neck: rank=5"),
        ("svd_affine", TARGETS, {"values": 6}, "neck: values=6"),
    ],
)
def test_a_bad_request_is_refused_and_changes_nothing(method, targets, options, message):
    network = Network()
    before = {name: (type(m), id(m)) for name, m in network.named_modules()}
    with pytest.raises(ValueError, match=message):
        adapt(network, method, targets, **options)
    assert {name: (type(m), id(m)) for name, m in network.named_modules()} == before
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_regularisation_of_some_layers():
    adaptation = adapted()
    with torch.no_grad():
        adaptation.layers["neck"].shift[0] = 2
        adaptation.layers["blocks.0.lin1"].scale[0] = 4
    assert adaptation.regularisation().item() == pytest.approx(5)
    assert adaptation.regularisation("blocks.*").item() == pytest.approx(3)


def shapes_only(weight: torch.Tensor) -> tuple:
    """What factor() gives, without the work of it."""
    rank = min(len(weight), weight[0].numel())
    empty = torch.empty(len(weight), rank, device="meta"), torch.empty(rank, device="meta")
    return *empty, torch.empty(rank, *weight.shape[1:], device="meta"), 0.0


def vit_b_at_256() -> nn.Module:
    """S-SAM's parts at the sizes of SAM ViT-B, without memory."""
    with torch.device("meta"):
        return nn.ModuleDict(
            {
                "image_encoder": ImageEncoderViT(
                    256, use_rel_pos=True, window_size=14, global_attn_indexes=(2, 5, 8, 11)
                ),
                "prompt_encoder": PromptEncoder(256, (16, 16), (256, 256), 16),
                "mask_decoder": MaskDecoder(transformer_dim=256, transformer=TwoWayTransformer(2, 256, 8, 2048)),
                "text": nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.BatchNorm1d(256)),
            }
        )


@pytest.mark.parametrize(
    ("method", "options", "trainable", "count"),
    [
        ("svd_affine", {}, [], 74_752),
        ("svd_affine", {}, ["text.*"], 74_752 + 131_840),
        ("svd_affine", {}, ["image_encoder.blocks.*.norm?.*"], 74_752 + 36_864),
        ("svd_affine", {}, ["image_encoder.pos_embed"], 74_752 + 196_608),
        ("svd_affine", {}, ["mask_decoder.transformer.*norm*"], 74_752 + 4_608),
        (
            "svd_affine",
            {},
            [
                "text.*",
                "image_encoder.blocks.*.norm?.*",
                "image_encoder.pos_embed",
                "mask_decoder.transformer.*norm*",
            ],
            444_672,
        ),
        # r (D + K) for every weight: 4 (768 + 2304), 4 (768 + 768), twice 4 (768 + 3072) a block; and the neck.
        ("lora", {"rank": 4}, [], 12 * 4 * (3072 + 1536 + 2 * 3840) + 4 * (768 + 256) + 4 * (256 * 9 + 256)),
    ],
)
def test_the_papers_counts_for_vit_b_at_256_px(method, options, trainable, count, monkeypatch):
    monkeypatch.setattr(layer, "factor", shapes_only)
    # By import_module, because the package names its function as the module.
    monkeypatch.setattr(import_module("common.svd_affine.adapt"), "content_hash", lambda tensors: "")
    blocks = [f"image_encoder.blocks.*.{name}" for name in ("attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2")]
    targets = [*blocks, "image_encoder.neck.0", "image_encoder.neck.2"]
    adaptation = adapt(vit_b_at_256(), method, targets, trainable=trainable, **options)
    assert len(adaptation.layers) == 12 * 4 + 2
    assert adaptation.count() == count
    if method == "svd_affine":
        assert all(isinstance(layer, SVDAffine) for layer in adaptation.layers.values())
        # An adapter of 2 MB at most: four bytes a number, and the running statistics.
        assert 4 * (adaptation.count() + 2 * 256) < 2e6
    assert LABELS not in adaptation._tensors()


@all_methods
def test_a_fresh_base_is_adapted_as_the_adapter_says(method, options):
    trained = train(adapted(method, **options))
    fresh = adapt_like(Network(), trained.take())
    assert torch.equal(logits(fresh), logits(trained))
    assert fresh.trainable().keys() == trained.trainable().keys()


def test_a_base_that_the_adapter_does_not_fit_is_left_as_it_was():
    trained = train(adapted()).take()
    for other, adapter_of in ((Network(1), trained), (Network(), replace(trained, method="salt (values=3, rank=2)"))):
        keys, grads = other.state_dict().keys(), [p.requires_grad for p in other.parameters()]
        with pytest.raises(ValueError, match=r"base|do not fit"):
            adapt_like(other, adapter_of)
        assert other.state_dict().keys() == keys and [p.requires_grad for p in other.parameters()] == grads


def test_what_is_kept_apart_is_neither_base_nor_adapter():
    network = Network()
    first = adapt(network, "selection", trainable=["*"], apart=["position"])
    assert "position" not in first.take().tensors and not network.position.requires_grad
    other = Network()
    with torch.no_grad():
        other.position += 1
    assert adapt(other, "selection", trainable=["*norm*"], apart=["position"]).base != first.base
    assert adapt(other, "selection", trainable=["*"], apart=["position"]).base == first.base
