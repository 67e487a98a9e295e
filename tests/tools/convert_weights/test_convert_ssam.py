# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Checkpoints of the S-SAM code: the merged network computes what the published one did."""

import json
import re

import pytest
import torch
from small_published import close, seeded

from bundles.ssam_2d.scripts.checkpoints import load_start
from bundles.ssam_2d.scripts.inference.adapters import AdapterBank
from bundles.ssam_2d.scripts.networks.image_encoder import ImageEncoder
from bundles.ssam_2d.scripts.networks.published import (
    PositionFreeTransformer,
    PublishedImageEncoder,
    PublishedTextDecoder,
)
from bundles.ssam_2d.scripts.networks.sam import MaskDecoder, PromptEncoder
from bundles.ssam_2d.scripts.networks.ssam import SSAM
from bundles.ssam_2d.scripts.networks.text import TextAffine
from common.label_names import names_in
from common.svd_affine import Adapter
from tools.convert_weights import ssam as kind
from tools.convert_weights.__main__ import main
from tools.convert_weights.accounts import part
from tools.convert_weights.report import overrides

HEADS = 4


def built(network, heads=HEADS):
    """The bundle's network of the settings that the converter found, as configs/published.json puts it together."""
    transformer = PositionFreeTransformer(**{**network["mask_decoder#transformer"], "num_heads": heads})
    return SSAM(
        ImageEncoder(**network["image_encoder"], window_size=0, use_rel_pos=False, norm_eps=1e-5),
        PromptEncoder(**network["prompt_encoder"]),
        MaskDecoder(**network["mask_decoder"], transformer=transformer),
        TextAffine(**network["text_affine"]),
        text_dim=network["text_affine"]["text_dim"],
    ).eval()


@pytest.fixture
def labels(tmp_path):
    generator = torch.Generator().manual_seed(5)
    features = {name: torch.randn(20, generator=generator) for name in ("gall bladder", "liver", "fat")}
    (tmp_path / "labels.json").write_text(json.dumps({name: v.tolist() for name, v in features.items()}))
    return tmp_path / "labels.json", features


def test_the_merged_network_computes_what_the_published_one_did(ssam, labels, publish, convert):
    path, features = labels
    status, tensors, text = convert(publish(ssam, "", "module."), "--kind", "ssam", "--labels", path)
    assert status == 0, text
    assert "2 (clip_model.visual.proj, clip_model.logit_scale): CLIP" in text
    assert "10 layers merged" in text
    assert not [key for key in tensors if "trainable" in key or "clip" in key]
    network = built(kind.ssam(ssam).network)
    network.set_labels(list(features), torch.zeros(3, 20))
    network.load_state_dict(tensors)
    encoder = PublishedImageEncoder(32, 8, 24, 2, 12, 16, 2)
    encoder.load_state_dict(part(ssam, "sam_encoder"))
    decoder = PublishedTextDecoder(16, 4, 32, 8, 20, 2, 32, HEADS, 3, 3, 16).eval()
    decoder.load_state_dict({k: v for k, v in ssam.items() if not k.startswith(("sam_encoder", "clip_model"))})
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(6))
    text_features = torch.stack(list(features.values()))
    with torch.no_grad():
        logits = network(image)
        embeddings = encoder(image)
        close(network.encode(image), embeddings)
        for row in range(2):
            masks, iou = decoder(embeddings[row : row + 1].expand(3, -1, -1, -1), text_features)
            close(network.decode(embeddings[row : row + 1], text_features)[1][0], iou[:, 0])
            close(logits[row].sigmoid(), decoder.probability(masks)[:, 0])


def test_the_reference_encoder(golden):
    """Merged, the reference encoder gives its reference embedding."""
    reference = golden("svdsam_image_encoder")
    config = reference.config
    decoder = PublishedTextDecoder(config["out_chans"], 8, 64, 8, 20, 2, 32, 8, 3, 3, 16)
    state = {f"sam_encoder.{key}": value for key, value in reference.state.items()} | seeded(decoder)
    conversion = kind.ssam(state)
    conversion.network["image_encoder"]["num_heads"] = config["num_heads"]
    network = built(conversion.network)
    network.load_state_dict(conversion.tensors)
    with torch.no_grad():
        close(network.encode(reference.inputs["image"]), reference.outputs["embedding"])


def test_the_reference_decoder(golden):
    """In the bundle's network, the reference decoder gives its reference masks."""
    reference = golden("svdsam_text_decoder")
    config = reference.config
    encoder = PublishedImageEncoder(128, 16, 24, 1, 2, config["embed_dim"], 2)
    state = {f"sam_encoder.{key}": value for key, value in seeded(encoder).items()} | reference.state
    conversion = kind.ssam(state)
    network = built(conversion.network, config["decoder_num_heads"])
    network.load_state_dict(conversion.tensors)
    features = reference.inputs["text_features"]
    with torch.no_grad():
        close(network.text_affine(features), reference.outputs["text_token"])
        # The reference pairs images with labels row by row.
        pairs = [
            network.decode(embedding[None], features[i : i + 1])
            for i, embedding in enumerate(reference.inputs["image_embedding"])
        ]
    close(torch.cat([logits[0] for logits, _ in pairs])[:, None], reference.outputs["low_res_masks"])
    close(torch.cat([iou for _, iou in pairs]), reference.outputs["iou"])


def test_full_size():
    """The published sizes are those of the overlay: ViT-B at 256 pixels, CLIP's 512 text features."""
    with torch.device("meta"):
        encoder, decoder = PublishedImageEncoder(), PublishedTextDecoder()
    state = {f"sam_encoder.{key}": value for key, value in encoder.state_dict().items()} | decoder.state_dict()
    conversion = kind.checked(state)
    assert list(conversion.tensors) == list(state)
    files = ["bundles/ssam_2d/configs/inference.json", "bundles/ssam_2d/configs/published.json"]
    assert overrides(files, conversion.network["bundle"]) == {}
    # The paper's count of what is trained in the encoder's weights.
    factors = [value for key, value in state.items() if kind.is_factor(key)]
    assert sum(value.numel() for value in factors) == 74_752
    assert state["sam_encoder.blocks.0.attn.qkv.trainable_scale"].shape == (768,)
    assert state["sam_encoder.neck.conv2.trainable_shift"].shape == (256,)
    assert state["Text_Embedding_Affine.0.weight"].shape == (256, 512)


def test_the_labels_stand_in_the_weights(ssam, labels, publish, convert, tmp_path):
    status, tensors, text = convert(publish(ssam, ""), "--labels", labels[0])
    assert status == 0, text
    assert names_in(tensors) == list(labels[1])
    assert torch.equal(tensors["label_features"], torch.stack(list(labels[1].values())))
    status, tensors, text = convert(publish(ssam, ""), name="unnamed.pt")
    assert status == 0, text
    assert tensors["label_features"].shape == (0, 20)
    assert names_in(tensors) == []
    assert "no labels: give them by --labels" in text


def test_the_adapter_on_its_base_is_the_merged_network(ssam, labels, publish, convert, tmp_path):
    path, out = publish(ssam, "model", "module."), tmp_path / "out"
    given = "--labels", str(labels[0])
    assert main([str(path), str(out / "adapter.safetensors"), "--kind", "ssam_adapter", *given]) == 0
    _, base, text = convert(path, "--kind", "ssam_base", name="base.pt")
    assert "it belongs to the adapter" in text
    _, merged, _ = convert(path, *given, name="merged.pt")
    network, expected = (built(kind.ssam(ssam).network) for _ in range(2))
    load_start(network, out / "base.pt")
    expected.set_labels(list(labels[1]), torch.zeros(3, 20))
    expected.load_state_dict(merged)
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(6))
    with torch.no_grad(), AdapterBank(out / "adapter.safetensors").using(network):
        assert network.labels == list(labels[1])
        close(network(image), expected(image))
    # Text layer, positions, norms of the encoder and the decoder, A and B of ten layers.
    adapter = Adapter.load(out / "adapter.safetensors")
    assert adapter.method == "svd_affine (values=None)"
    assert sum(name.endswith((".scale", ".shift")) for name in adapter.tensors) == 20
    assert "mask_decoder.transformer.norm_final_attn.bias" in adapter.tensors
    assert not [name for name in base if name.startswith("text_affine")]


def test_an_adapter_needs_labels_and_its_own_ending(ssam, labels, publish, convert):
    path = publish(ssam, "")
    status, _, text = convert(path, "--kind", "ssam_adapter", name="a.safetensors")
    assert status == 1
    assert "give them by --labels FILE" in text
    status, _, text = convert(path, "--kind", "ssam_adapter", "--labels", labels[0])
    assert status == 1
    assert "an adapter's name ends in .safetensors" in text
    status, _, text = convert(path, name="weights.safetensors")
    assert status == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.update({"slice_embedding.weight": torch.zeros(1)}), "1 unknown .slice_embedding"),
        (lambda s: s.update({"sam_encoder.blocks.0.attn.qkv.trainable_mlp.lin1.weight": torch.zeros(1)}), "1 unknown"),
        (lambda s: [s.pop(k) for k in list(s) if k.endswith("qkv.trainable_scale")], "trainable_scale"),
        (lambda s: s.pop("Text_Embedding_Affine.2.running_mean"), "1 missing .Text_Embedding_Affine.2"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("mask_decoder")], "no S-SAM"),
        (lambda s: s.update({"sam_encoder.pos_embed": torch.zeros(1, 16, 24)}), "pos_embed"),
    ],
)
def test_other_methods_of_the_same_code_are_refused(ssam, publish, convert, spoil, message):
    spoil(ssam)
    with pytest.raises(ValueError, match=message):
        kind.ssam(ssam)
    assert convert(publish(ssam, ""), "--kind", "ssam")[0] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON, each name with its text features"),
        ('["liver"]', "expected JSON, each name with its text features"),
        ('{"liver": "big"}', "expected JSON, each name with its text features"),
        ('{"liver": [1, 2]}', "'liver': .2,.}; expected .20,. for each name"),
    ],
)
def test_labels_of_another_form(ssam, publish, convert, tmp_path, content, message):
    (tmp_path / "labels.json").write_text(content)
    status, _, text = convert(publish(ssam, ""), "--labels", tmp_path / "labels.json")
    assert status == 1
    assert re.search(message, text), text
