# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""LiteMedSAM's form tuned by names: what is frozen is passed once, and what is merged gives the same masks."""

import logging

import pytest
import torch
from small_lite_medsam import SMALL, network
from training_runs import SETTINGS, SSAM, make_folder, weights
from workflows import refusal, run_configs

from bundles.ssam_2d.scripts.networks.folded import FoldedTinyViT
from common.svd_affine import Adapter
from common.svd_affine.adapt import adapt_like

CONFIGS = ["train.json", "lite_medsam.json"]
SETTINGS = {**SETTINGS, "batch_size": 2, "max_epochs": 2}
TAIL, WHOLE = "lite_medsam_train.json", "lite_medsam_whole.json"
APART = ("label_features", "label_names")


@pytest.fixture
def base(tmp_path, ssam_path):
    parts = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
    torch.save({k: v for k, v in network().state_dict().items() if k.startswith(parts)}, tmp_path / "base.pt")
    return tmp_path / "base.pt"


@pytest.fixture
def train(tmp_path, base):
    folder = make_folder(tmp_path / "data")

    def run(how=TAIL, **settings):
        given = {"dataset_dir": folder, "base_path": base, "output_dir": tmp_path / "run", "amp": False}
        return run_configs(SSAM, [*CONFIGS, how], **{**SMALL, **SETTINGS, **given, **settings})

    return run


def logits(made, features):
    torch.manual_seed(9)
    with torch.no_grad():
        return made.decode(made.encode(torch.rand(1, 3, 64, 64)), features)[0]


@pytest.mark.parametrize("how", [TAIL, WHOLE])
def test_the_adapter_on_its_base_is_the_trained_network_and_merging_changes_nothing(tmp_path, train, how):
    trained = train(how).parser.get_parsed_content("adaptation").module.eval()
    adapter = Adapter.load(tmp_path / "run" / "adapter.safetensors")
    statistics = [name for name in adapter.tensors if "running_" in name or "num_batches" in name]
    assert all(name.startswith("text_affine.") for name in statistics)
    features = torch.stack(list(adapter.labels.values()))
    plain = network()
    before = logits(plain, features)
    adaptation = adapt_like(plain, adapter, APART)
    adapted = logits(plain, features)
    adaptation.merge()
    assert (logits(trained, features) - adapted).abs().max() < 1e-4
    assert (logits(plain, features) - adapted).abs().max() < 1e-4 < (before - adapted).abs().max()
    merged = weights(tmp_path / "run" / "model.pt")
    assert all(torch.allclose(merged[name], tensor) for name, tensor in plain.state_dict().items() if name not in APART)
    folded = FoldedTinyViT(plain.image_encoder, torch.float32)
    image = torch.rand(1, 3, 64, 64)
    assert torch.allclose(folded(image), plain.image_encoder(image), atol=1e-3)


def test_every_kind_of_layer_of_the_encoder_has_singular_values(tmp_path, train):
    train(WHOLE, max_epochs=1)
    tensors = Adapter.load(tmp_path / "run" / "adapter.safetensors").tensors
    layers = {
        name for name, m in network().image_encoder.named_modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))
    }
    assert {f"image_encoder.{name}.scale" for name in layers} <= tensors.keys()


def test_the_front_is_what_the_network_sees(train):
    parser = train(max_epochs=1).parser
    made, after, front = (parser.get_parsed_content(name) for name in ("network", "after_front", "front"))
    image = parser.get_parsed_content("validate#dataset")[0]["image"][None]
    with torch.no_grad():
        whole, parts = made(image), after(front(image[0])[None])
    assert (whole - parts).abs().max() < 0.05 * whole.abs().max()


def test_draws_come_again(train):
    parser = train(max_epochs=1, copies=2).parser
    draws = parser.get_parsed_content("train#draws")
    seen = []
    for seed in (4, 7, 6):
        draws.start_epoch(seed)
        seen.append(draws[0]["front"])
    assert seen[2] is seen[0] and not torch.equal(seen[1], seen[0])


def test_a_run_gone_on_with_is_one_that_never_stopped(tmp_path, train):
    train()
    whole = Adapter.load(tmp_path / "run" / "adapter.safetensors").tensors
    train(output_dir=tmp_path / "again", max_epochs=1)
    train(output_dir=tmp_path / "again", resume=True)
    again = Adapter.load(tmp_path / "again" / "adapter.safetensors").tensors
    assert all(torch.allclose(tensor, again[name], atol=1e-6) for name, tensor in whole.items())


def test_what_cannot_be_trained_is_refused_before_work_starts(train, monkeypatch, tmp_path):
    refused = refusal(train, tmp_path / "run")
    refused("frozen_stages 4, but .* tensors in them are trained, such as image_encoder.layers.3", frozen_stages=4)
    refused("frozen_stages is 5", frozen_stages=5)
    refused("copies", copies=0)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    refused("python -m tools.lite_medsam.*--base_path FILE", base_path="lite_medsam")


def test_another_file_than_the_published_is_named(train, base, caplog):
    with caplog.at_level(logging.WARNING):
        train(max_epochs=1)
    assert f"{base} is not the published LiteMedSAM" in caplog.text
