# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Adapters at inference: one base, several adapters, chosen by a request or blended; others refused."""

import json

import numpy as np
import pytest
import torch
from pictures import gradient
from PIL import Image, ImageSequence
from small_sam import TEXT, sam_state, small_sam

from bundles.ssam_2d.scripts.inference.adapters import AdapterBank
from common.svd_affine import Adapter, adapt, blend

TARGETS = ["image_encoder.blocks.*.attn.qkv", "image_encoder.blocks.*.mlp.lin?", "image_encoder.neck.0"]
TRAINABLE = ["image_encoder.blocks.*.norm*", "image_encoder.pos_embed", "text_affine.*"]
APART = ["label_features", "label_names"]


def make_adapter(
    labels: list[str], seed: int, base: int = 0, method: str = "svd_affine"
) -> tuple[Adapter, torch.nn.Module]:
    """As if trained from the base of that seed; and the network that it belongs to, adapted."""
    network = small_sam(labels=[], seed=base)
    network.set_labels(labels, torch.randn(len(labels), TEXT, generator=torch.Generator().manual_seed(seed)))
    targets = [] if method == "selection" else TARGETS
    adaptation = adapt(network, method, targets, trainable=TRAINABLE, apart=APART)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in adaptation.trainable().values():
            parameter += 0.2 * torch.randn_like(parameter)
    return adaptation.take(dict(zip(labels, network.label_features.detach(), strict=True))), network


@pytest.fixture
def bank(tmp_path):
    """Two adapters of one base in files, and what their networks answer to an image."""
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    files, expected = {}, {}
    with torch.no_grad():
        for name, labels, seed in (("organs", ["liver", "spleen"], 1), ("polyps", ["polyp"], 2)):
            adapter, network = make_adapter(labels, seed)
            adapter.save(tmp_path / f"{name}.safetensors")
            files[name], expected[name] = str(tmp_path / f"{name}.safetensors"), network(image)
    torch.save(sam_state(small_sam()), tmp_path / "base.pt")
    return files, expected, image


def test_adapters_are_switched_on_one_base_in_memory(bank):
    files, expected, image = bank
    adapters, network = AdapterBank(files), small_sam()
    with torch.no_grad():
        for name in ("organs", "polyps", "organs", "organs"):
            with adapters.using(network, name) as adapted:
                assert adapted is network
                assert torch.allclose(network(image), expected[name], atol=1e-5)
        assert network.labels == ["liver", "spleen"]
        # Merged: the layers of the network are plain ones, at no cost.
        assert network.state_dict().keys() == small_sam().state_dict().keys()
        with adapters.using(network, {"organs": 0.25, "polyps": 0.75}):
            mixed = network(image)
            assert network.labels == ["liver", "spleen", "polyp"]
        other = small_sam()
        with AdapterBank(files).using(other, {"organs": 0.25, "polyps": 0.75}):
            assert torch.allclose(other(image), mixed, atol=1e-6)
        whole = blend([Adapter.load(f) for f in files.values()], [0.25, 0.75])
        plain = adapt(small_sam(), "svd_affine", TARGETS, trainable=TRAINABLE, apart=APART)
        plain.put(whole)
        plain.module.set_labels(list(whole.labels), torch.stack(list(whole.labels.values())))
        assert torch.allclose(plain.module(image), mixed, atol=1e-5)


def test_a_network_that_is_loaded_anew_is_adapted_anew(bank):
    files, expected, image = bank
    adapters = AdapterBank(files["polyps"])
    with torch.no_grad():
        for _ in range(2):
            network = small_sam()
            with adapters.using(network):
                assert torch.allclose(network(image), expected["polyps"], atol=1e-5)


def test_inference_with_an_adapter_is_inference_with_its_merged_weights(run_ssam, bank, tmp_path):
    files, _, _ = bank
    Image.fromarray(gradient(3)).save(tmp_path / "a.png")
    network = small_sam()
    with AdapterBank(files["organs"]).using(network):
        torch.save(network.state_dict(), tmp_path / "merged.pt")
    settings = {"image": tmp_path / "a.png", "image_size": 32, "probabilities": True, "threshold": 0.45}
    plain = run_ssam(**settings, network_def=small_sam(labels=["liver", "spleen"]), ckpt_path=tmp_path / "merged.pt")
    adapted = run_ssam(
        **settings, network_def=small_sam(), ckpt_path=tmp_path / "base.pt", adapter=files, use_adapter="organs"
    )
    described = json.loads((adapted / "a_seg.json").read_text())
    assert described["label_names"] == {"1": "liver", "2": "spleen"} and described["adapter"] == "organs"
    for name in ("a_seg.png", "a_seg_probabilities.tif"):
        assert np.allclose(np.array(Image.open(plain / name)), np.array(Image.open(adapted / name)), atol=1e-4)
    assert np.array(Image.open(plain / "a_seg.png")).any()


def test_each_image_with_an_adapter_of_its_own(run_ssam, bank, tmp_path):
    files, _, _ = bank
    for name in "ab":
        Image.fromarray(gradient(3)).save(tmp_path / f"{name}.png")
    images = [
        {"image": str(tmp_path / "a.png"), "use_adapter": "polyps"},
        {"image": str(tmp_path / "b.png"), "use_adapter": {"polyps": 0.5, "organs": 0.5}, "labels": ["spleen"]},
    ]
    settings = {"image_size": 32, "network_def": small_sam(), "ckpt_path": tmp_path / "base.pt"}
    folder = run_ssam(image=images, adapter=files, **settings)
    names = [json.loads((folder / f"{n}_seg.json").read_text())["label_names"] for n in "ab"]
    assert names == [{"1": "polyp"}, {"3": "spleen"}]


def test_each_name_picks_the_adapter_that_knows_it(run_ssam, refused, bank, tmp_path):
    """In one run on one base: as if each adapter had been asked alone, values in the order of the adapters."""
    files, _, _ = bank
    adapter = Adapter.load(files["polyps"])
    Adapter(adapter.method, adapter.base, adapter.tensors, adapter.labels, {"polyp": ["adenoma"]}).save(files["polyps"])
    Image.fromarray(gradient(3)).save(tmp_path / "a.png")
    settings = {"image": tmp_path / "a.png", "image_size": 32, "ckpt_path": tmp_path / "base.pt", "adapter": files}
    settings |= {"probabilities": True, "threshold": 0.45}

    def seen(**asked):
        folder = run_ssam(network_def=small_sam(), **settings, **asked)
        pages = ImageSequence.Iterator(Image.open(folder / "a_seg_probabilities.tif"))
        return json.loads((folder / "a_seg.json").read_text()), np.stack([np.array(page) for page in pages])

    both, probabilities = seen(labels=["Adenomas", "SPLEEN"])
    assert both["label_names"] == {"2": "spleen", "3": "polyp"}
    assert [found["adapter"] for found in both["objects"]] == ["organs", "polyps"] and both["adapter"] is None
    alone = [seen(labels=[n], use_adapter=a)[1] for n, a in (("spleen", "organs"), ("polyp", "polyps"))]
    expected = np.concatenate(alone)
    assert np.allclose(probabilities, expected, atol=1e-4)
    assert np.ptp(expected[0] - expected[1]) > 0.01

    reason = "no adapter knows 'kidney'. The adapters know organs: liver, spleen; polyps: polyp"
    refused(reason, network_def=small_sam(), **settings, labels=["liver", "kidney"])
    make_adapter(["livers"], 4)[0].save(tmp_path / "more.safetensors")
    settings["adapter"] = {**files, "more": str(tmp_path / "more.safetensors")}
    refused("'Liver' is known to organs, more", network_def=small_sam(), **settings, labels=["Liver", "polyp"])


def test_what_does_not_belong_together_is_refused_before_the_first_image(refused, bank, tmp_path, monkeypatch):
    files, _, _ = bank
    Image.fromarray(gradient(3)).save(tmp_path / "a.png")
    torch.save(sam_state(small_sam(seed=5)), tmp_path / "other.pt")
    torch.save(small_sam().state_dict(), tmp_path / "model.pt")
    make_adapter(["gland"], 3, method="lora")[0].save(tmp_path / "lora.safetensors")
    tiny = {"image_encoder.layers.3.blocks.0.attn.qkv.scale": torch.ones(4)}
    Adapter("svd_affine (values=None)", "0" * 64, tiny, {"gland": torch.ones(TEXT)}).save(tmp_path / "tiny.safetensors")
    make_adapter(["gland"], 3, base=5)[0].save(tmp_path / "base5.safetensors")

    def wrong(reason: str, base: str = "base.pt", **settings):
        run = {"image": tmp_path / "a.png", "image_size": 32, "network_def": small_sam(), "ckpt_path": tmp_path / base}
        refused(reason, **run, **settings)

    wrong("load the checkpoint that the adapter was trained on", "other.pt", adapter=files["polyps"])
    reason = "another network: 1 of its 1 parts are not in this one, such as image_encoder.layers.3.*train it again"
    wrong(reason, adapter=str(tmp_path / "tiny.safetensors"))
    wrong("2 adapters are loaded: say which by use_adapter, one of organs, polyps", adapter=files)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    wrong(
        "python -m tools.lite_medsam.*--ckpt_path FILE",
        "model.pt",
        adapter=files["polyps"],
        **{"weights#path": "lite_medsam"},
    )
    wrong("use_adapter livers: expected one of organs, polyps", adapter=files, use_adapter="livers")
    wrong("sum of 1", adapter=files, use_adapter={"organs": 0.5, "polyps": 0.9})
    wrong("use_adapter 'organs', but none was loaded", "model.pt", use_adapter="organs")
    wrong("unknown label 'kidney': the network knows polyp", adapter=files["polyps"], labels=["kidney"])
    wrong("no such file; expected an adapter", adapter=str(tmp_path / "missing.safetensors"))
    wrong("no sound safetensors file", adapter=str(tmp_path / "a.png"))
    wrong("organs and lora have the method", adapter={**files, "lora": str(tmp_path / "lora.safetensors")})
    wrong("organs and other have the base", adapter={**files, "other": str(tmp_path / "base5.safetensors")})
