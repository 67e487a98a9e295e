# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""train.json and its variants, from images to an adapter and a merged network, stopped and gone on with."""

import json
import shutil

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from training_runs import SSAM, TINY, make_folder, make_list, run, tiny_base, weights
from workflows import run_until_killed

from common.label_names import names_in
from common.svd_affine import Adapter
from common.svd_affine.adapt import adapt_like

VARIANTS = sorted(file.stem for file in (SSAM / "configs" / "variants").glob("*.json"))
TRAINED = {"validation_share": 0.34, "batch_size": 2, "learning_rate": 0.01, "max_epochs": 2}


@pytest.fixture
def base(tmp_path, ssam_path):
    return tiny_base(tmp_path / "base.pt")


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "data")


def fresh_network(base, labels):
    """The configuration's network with the base's weights, as a program that loads an adapter builds it."""
    parser = ConfigParser()
    parser.read_config([str(SSAM / "configs" / name) for name in ("train.json", "train_base.json")])
    parser.update(TINY)
    parser.update({"network_def#text_dim": 32, "network_def#text_affine#text_dim": 32})
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(weights(base), strict=False)
    network.set_labels(labels, torch.zeros(len(labels), network.label_features.shape[1]))
    return network.eval()


def logits_of(network, features=None):
    torch.manual_seed(9)
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        return network.decode(network.encode(image), network.label_features if features is None else features)[0]


@pytest.mark.parametrize("variant", [None, *VARIANTS])
def test_an_adapter_on_a_fresh_base_gives_the_same_logits(tmp_path, base, folder, variant):
    configs = ["train.json", *([f"variants/{variant}.json"] if variant else [])]
    # The tiny network's narrowest layer has no higher rank.
    settings = {**TRAINED, "tuning#rank": 2}
    workflow = run(*configs, dataset_dir=folder, base_path=base, output_dir=tmp_path / "run", **settings)
    adaptation = workflow.parser.get_parsed_content("adaptation")
    adaptation.module.eval()
    trained = logits_of(adaptation.module)

    adapter = Adapter.load(tmp_path / "run" / "adapter.safetensors")
    assert list(adapter.labels) == ["disc", "bar"] == names_in(weights(tmp_path / "run" / "model.pt"))
    network = fresh_network(base, list(adapter.labels))
    features = torch.stack(list(adapter.labels.values()))
    untuned = logits_of(network, features)
    fresh = adapt_like(network, adapter, ("label_features", "label_names"))
    adapted = logits_of(network, features)
    fresh.merge()
    merged = logits_of(network, features)
    assert (adapted - trained).abs().max() < 1e-5 and (merged - trained).abs().max() < 1e-5
    assert (adapted - untuned).abs().max() > 1e-3
    network.set_labels(list(adapter.labels), features)
    written = weights(tmp_path / "run" / "model.pt")
    assert written.keys() == network.state_dict().keys()
    assert all(torch.allclose(tensor, written[name], atol=1e-6) for name, tensor in network.state_dict().items())
    assert (tmp_path / "run" / "preview.png").stat().st_size > 1000


def test_labels_that_are_not_asked_for_cost_nothing_and_change_nothing(base, ssam_path):
    network = fresh_network(base, ["a", "b", "c"])
    network.set_labels(["a", "b", "c"], torch.randn(3, network.label_features.shape[1]))
    image = torch.randn(2, 3, 32, 32)
    asked = torch.tensor([[True, False, True], [False, False, True]])
    with torch.no_grad():
        every, some = network(image), network(image, asked)
    assert torch.allclose(some[asked], every[asked], atol=1e-5) and not some[~asked].any()


@pytest.mark.parametrize(
    ("overlays", "given", "rate"),
    [
        ([], {}, 0.02),
        (["variants/lora.json"], {}, 0.006),
        (["variants/with_decoder.json"], {}, 0.001),
        (["variants/lora.json"], {"learning_rate": 0.5}, 0.5),
        # An experiment of the paper states a rate for all its ablations, wherever in the line it stands.
        (["experiments/lits.json", "variants/lora.json"], {}, 0.0001),
        (["variants/lora.json", "experiments/lits.json"], {}, 0.0001),
    ],
)
def test_each_way_to_tune_has_a_learning_rate_of_its_own(overlays, given, rate):
    parser = ConfigParser()
    parser.read_config([str(SSAM / "configs" / name) for name in ("train.json", *overlays)])
    parser.update(given)
    assert parser.get_parsed_content("learning_rate") == rate


@pytest.mark.parametrize("paper", [True, False])
def test_what_is_tuned(tmp_path, base, folder, paper):
    """By the paper the encoder's blocks and neck; by default the patch embedding and the decoder too, no positions."""
    configs = ["train.json", *(["variants/paper.json"] if paper else [])]
    workflow = run(*configs, dataset_dir=folder, base_path=base, output_dir=tmp_path / "run", **TRAINED)
    names = workflow.parser.get_parsed_content("adaptation").trainable()
    layers = {f"blocks.{i}.{part}" for i in (0, 1) for part in ("attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2")}
    layers |= {"neck.0", "neck.2"}
    expected = {f"image_encoder.{layer}.{leaf}" for layer in layers for leaf in ("scale", "shift")}
    norms = {"blocks.0.norm1", "blocks.0.norm2", "blocks.1.norm1", "blocks.1.norm2", "neck.1", "neck.3"}
    expected |= {f"image_encoder.{norm}.{leaf}" for norm in norms for leaf in ("weight", "bias")}
    expected |= {f"text_affine.{part}.{leaf}" for part in ("linear", "norm") for leaf in ("weight", "bias")}
    in_decoder = {name for name in names if name.startswith("mask_decoder.")}
    first = {f"image_encoder.patch_embed.proj.{leaf}" for leaf in ("scale", "shift", "bias")}
    assert set(names) - in_decoder == expected | ({"image_encoder.pos_embed"} if paper else first)
    # Two layers of a cross, a self and a cross attention and an MLP, a last attention; upscaling; the mask's MLP.
    factors = {name for name in in_decoder if name.endswith((".scale", ".shift"))}
    assert len(factors) == (0 if paper else 2 * (2 * (3 * 4 + 2) + 4 + 2 + 3))
    assert all("norm" in n or "output_upscaling." in n or "mask_tokens" in n for n in in_decoder - factors)
    before, after = weights(base), weights(tmp_path / "run" / "model.pt")
    frozen = [name for name in before if name.startswith(("prompt_encoder.", "mask_decoder.")[: 1 + paper])]
    assert frozen and all(torch.equal(before[name], after[name]) for name in frozen)


def test_it_learns(tmp_path, base, folder):
    settings = {**TRAINED, "learning_rate": 0.003, "validation_share": 0.0, "previews": 0}
    frozen = {"train#random_transforms#transforms": [{"_target_": "scripts.view.Normalised", "keys": "image"}]}
    seen = []
    for epochs in (1, 40):
        settings["max_epochs"] = epochs
        run_dir = tmp_path / f"run{epochs}"
        configs = "train.json", "variants/full.json"
        workflow = run(*configs, dataset_dir=folder, base_path=base, output_dir=run_dir, **settings, **frozen)
        seen.append(workflow.parser.get_parsed_content("train#trainer").state.metrics["train_loss_mean"])
    assert seen[1] < 0.8 * seen[0]


@pytest.mark.parametrize(("steps", "save_every"), [(3, 1), (5, 0)])
def test_a_killed_run_ends_as_one_that_was_not(tmp_path, base, folder, steps, save_every):
    settings = {**TRAINED, "dataset_dir": folder, "base_path": base, "max_epochs": 4, "save_every": save_every}
    run("train.json", output_dir=tmp_path / "whole", **settings)
    killed = {**settings, "output_dir": tmp_path / "killed"}
    run_until_killed(steps, run, "train.json", **killed)
    assert (tmp_path / "killed" / "state.pt").is_file() and not (tmp_path / "killed" / "model.pt").exists()
    run("train.json", resume=True, **killed)
    whole, resumed = (weights(tmp_path / name / "model.pt") for name in ("whole", "killed"))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_a_finished_run_may_be_given_more_epochs(tmp_path, base, folder):
    settings = {**TRAINED, "dataset_dir": folder, "base_path": base, "previews": 0}
    run("train.json", output_dir=tmp_path / "long", **{**settings, "max_epochs": 3})
    run("train.json", output_dir=tmp_path / "short", **{**settings, "max_epochs": 1})
    run("train.json", output_dir=tmp_path / "short", resume=True, **{**settings, "max_epochs": 3})
    long, short = (weights(tmp_path / name / "model.pt") for name in ("long", "short"))
    assert all(torch.equal(tensor, short[name]) for name, tensor in long.items())


def test_a_run_is_not_overwritten_nor_mixed_up(tmp_path, base, folder):
    settings = {**TRAINED, "dataset_dir": folder, "base_path": base, "output_dir": tmp_path / "run"}
    run("train.json", **settings)
    with pytest.raises((ValueError, RuntimeError)) as caught:
        run("train.json", **settings)
    assert "give --resume true" in str(root_of(caught.value))
    with pytest.raises((ValueError, RuntimeError)) as caught:
        run("train.json", **{**settings, "learning_rate": 0.5}, resume=True)
    assert "learning_rate: was 0.01, is 0.5" in str(root_of(caught.value))


def root_of(error):
    while not isinstance(error, ValueError) and error.__cause__ is not None:
        error = error.__cause__
    assert isinstance(error, ValueError), repr(error)
    return error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["polyp"]}, "unknown label 'polyp'; the data has disc, bar"),
        ({"base_path": "nowhere.pt"}, "nowhere.pt"),
        ({"dataset_dir": None}, "no data: give --data_list_file_path"),
        ({"tuning#targets": ["image_encoder.nothing.*"]}, "no layer matches 'image_encoder.nothing"),
        ({"absent_rate": 3}, "absent_rate is 3: expected a number from 0 to 1"),
    ],
)
def test_bad_input_is_refused_before_work_starts(tmp_path, base, folder, change, message):
    settings = {**TRAINED, "dataset_dir": folder, "base_path": base, "output_dir": tmp_path / "run", **change}
    if change.get("dataset_dir", folder) is None:
        # Without data the names would be the metadata's, as a labelling server wants it.
        settings["table"] = None
    with pytest.raises((ValueError, RuntimeError)) as caught:
        run("train.json", **settings)
    assert message in str(root_of(caught.value))
    assert not (tmp_path / "run" / "state.pt").exists()


def test_it_stops_when_nothing_gets_better(tmp_path, base, folder):
    settings = {**TRAINED, "learning_rate": 0.0, "max_epochs": 9, "patience": 2, "previews": 0}
    workflow = run("train.json", dataset_dir=folder, base_path=base, output_dir=tmp_path / "run", **settings)
    assert workflow.parser.get_parsed_content("train#trainer").state.epoch <= 4
    assert (tmp_path / "run" / "model.pt").is_file()


def test_as_a_labelling_server_trains(tmp_path, base, folder):
    """MONAI Label overrides items, epochs and device; the names are the metadata's, the run lies in the bundle."""
    list_file = json.loads(make_list(folder).read_text())
    items = [{k: str(folder / v) for k, v in item.items()} for item in list_file["training"]]
    overrides = {"train#dataset#data": items, "validate#dataset#data": [], "train#trainer#max_epochs": 1}
    # Its weights would be published into the bundle: the test keeps them where it may write.
    workflow = run("train.json", base_path=base, output_dir=tmp_path / "run", previews=0, **overrides)
    names = json.loads((SSAM / "configs" / "metadata.json").read_text())
    channels = names["network_data_format"]["outputs"]["pred"]["channel_def"]
    labels = names_in(weights(tmp_path / "run" / "model.pt"))
    assert labels == [channels[str(i)] for i in range(1, len(channels))]
    assert workflow.parser.get_parsed_content("train#trainer").state.iteration == 1
    handlers = workflow.parser["train"]["handlers"]
    # The server puts a loader of its own in front unless there is one by this name.
    assert any(handler["_target_"] == "CheckpointLoader" and handler["_disabled_"] for handler in handlers)


def test_ids_that_monai_asks_for(tmp_path, base, folder):
    workflow = run(
        "train.json", dataset_dir=folder, base_path=base, output_dir=tmp_path / "run", **{**TRAINED, "max_epochs": 1}
    )
    assert not [e for e in workflow.check_properties() or [] if "missing" in str(e)]


def empty_a_mask(folder):
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(folder / "masks" / "case_2.png")


def change_an_image(folder):
    image = np.asarray(Image.open(folder / "images" / "case_3.png"))
    Image.fromarray(image[::-1]).save(folder / "images" / "case_3.png")


def add_an_image_that_shuffles_the_split(folder):
    for part in ("images", "masks"):
        shutil.copy(folder / part / "case_0.png", folder / part / "a_new.png")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (empty_a_mask, "case_2.png, has another content"),
        (change_an_image, "case_3.png, has another content"),
        (add_an_image_that_shuffles_the_split, "had 4 items, has 5"),
    ],
)
def test_a_run_on_other_data_is_not_resumed(tmp_path, base, folder, change, said):
    settings = {**TRAINED, "dataset_dir": folder, "base_path": base, "output_dir": tmp_path / "run", "previews": 0}
    run("train.json", **{**settings, "max_epochs": 1})
    change(folder)
    with pytest.raises((ValueError, RuntimeError)) as caught:
        run("train.json", **{**settings, "max_epochs": 2}, resume=True)
    assert "belongs to a run on other data" in str(root_of(caught.value)) and said in str(root_of(caught.value))


def test_a_run_whose_data_were_moved_goes_on(tmp_path, base, folder):
    settings = {**TRAINED, "base_path": base, "output_dir": tmp_path / "run", "previews": 0}
    run("train.json", **{**settings, "dataset_dir": folder, "max_epochs": 1})
    moved = shutil.copytree(folder, tmp_path / "moved")
    run("train.json", **{**settings, "dataset_dir": moved, "max_epochs": 2}, resume=True)
