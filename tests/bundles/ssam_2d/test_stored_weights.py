# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Weights bring the names of their labels with them, whoever loads them and wherever the file lies."""

import json

import pytest
import torch
from ignite.engine import Engine
from monai.bundle import load
from monai.handlers import CheckpointLoader
from small_sam import sam_state, small_sam

from bundles.ssam_2d.scripts.inference.adapters import AdapterBank
from bundles.ssam_2d.scripts.stored_weights import StoredWeights
from common.svd_affine import adapt

NAMES = ["liver", "Drüse"]


@pytest.fixture
def named(tmp_path):
    """Weights of two labels."""
    network = small_sam(labels=NAMES, seed=4)
    torch.save(network.state_dict(), tmp_path / "moved.pt")
    return tmp_path / "moved.pt", network


@pytest.fixture
def nameless(tmp_path, named):
    """The same as an earlier version wrote them."""
    state = {k: v for k, v in named[1].state_dict().items() if k != "label_names"}
    (tmp_path / "old").mkdir()
    torch.save(state, tmp_path / "old" / "model.pt")
    return tmp_path / "old" / "model.pt"


@pytest.mark.parametrize("loader", ["strict", "not strict", "MONAI's handler", "wrapped"])
def test_every_loader_of_state_dicts_takes_names_and_features_of_any_number(named, loader, tmp_path):
    path, expected = named
    network = small_sam(labels=["a", "b", "c"])
    if loader == "MONAI's handler":
        CheckpointLoader(str(path), {"model": network})(Engine(lambda engine, batch: None))
    elif loader == "wrapped":
        torch.save({"model": expected.state_dict()}, tmp_path / "wrapped.pt")
        stored = StoredWeights(tmp_path / "wrapped.pt")
        network.set_labels(stored.labels, torch.zeros(2, stored.text_dim))
        stored.load(network)
    else:
        network.load_state_dict(torch.load(path, weights_only=True), strict=loader == "strict")
    assert network.labels == NAMES
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(image), expected(image))


def test_the_file_says_what_network_it_is_of(named, tmp_path):
    stored = StoredWeights(named[0])
    assert (stored.labels, stored.text_dim, stored.knows_names) == (NAMES, small_sam().label_features.shape[1], True)
    torch.save(sam_state(named[1]), tmp_path / "sam.pt")
    plain = StoredWeights(tmp_path / "sam.pt")
    assert (plain.labels, plain.text_dim, plain.knows_names) == ([], 512, False)
    (tmp_path / "broken.pt").write_bytes(b"no weights")
    for name in ("broken.pt", "missing.pt"):
        absent = StoredWeights(tmp_path / name)
        # Whoever loads it says so.
        assert (absent.labels, absent.text_dim) == ([], 512)
        with pytest.raises(ValueError, match=name):
            absent.load(small_sam())


def test_an_adapter_with_a_text_layer_says_its_channels(tmp_path):
    network = small_sam()
    features = dict(zip(network.labels, network.label_features.detach(), strict=True))
    adapt(network, "selection", trainable=["text_affine.*"]).take(features).save(tmp_path / "text.safetensors")
    adapt(network, "selection", trainable=["image_encoder.neck.*"]).take(features).save(tmp_path / "neck.safetensors")
    assert AdapterBank(tmp_path / "text.safetensors").text_dim == network.label_features.shape[1]
    assert AdapterBank(tmp_path / "neck.safetensors").text_dim is None and AdapterBank().text_dim is None


def test_weights_without_names_are_refused_with_what_to_do(nameless):
    with pytest.raises(ValueError, match="2 labels and 0 names.*they are in the labels.json of its training.*--kind"):
        _ = StoredWeights(nameless).labels
    (nameless.parent / "labels.json").write_text(json.dumps(["spleen", "colon"]))
    with pytest.raises(ValueError, match="labels.json beside it may be theirs.*--kind named model.pt.*label_names"):
        _ = StoredWeights(nameless).labels
    # No other loader takes them for those that the network happens to have.
    with pytest.raises(RuntimeError, match="2 labels without names: expected the tensor label_names"):
        small_sam(labels=["a", "b", "c"]).load_state_dict(torch.load(nameless), strict=False)


def test_names_given_for_them_are_taken_if_there_are_as_many(nameless, named):
    stored, network = StoredWeights(nameless, NAMES), small_sam(labels=NAMES)
    assert stored.labels == NAMES
    stored.load(network)
    assert network.labels == NAMES and torch.equal(network.label_features, named[1].label_features)
    for names, said in ((["liver"], "2 labels and 1 names"), (["a", "a"], "more than once"), ("ab", "list of names")):
        with pytest.raises(ValueError, match=said):
            _ = StoredWeights(nameless, names).labels
    with pytest.raises(ValueError, match="its labels are liver, Drüse, and label_names gives"):
        _ = StoredWeights(named[0], ["a", "b"]).labels


def test_the_shipped_weights_bring_the_names_of_the_metadata_through_monai_s_own_loader(ssam_path):
    metadata = json.loads((ssam_path / "configs" / "metadata.json").read_text())
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    names = [channels[str(i)] for i in range(1, len(channels))]
    stored = torch.load(ssam_path / "models" / "model.pt", weights_only=True)
    for kind in ("train", "inference"):
        network = load("ssam_2d", bundle_dir=str(ssam_path.parent), workflow_type=kind, device="cpu")
        assert network.labels == names
        assert all(torch.equal(value, stored[name]) for name, value in network.state_dict().items())
