# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Files of LiteMedSAM's and MobileSAM's form: every tensor of them has its place, or a reason why it has none."""

import pytest
import torch
from small_published import SAM, seeded

from bundles.ssam_2d.scripts import lite_medsam
from bundles.ssam_2d.scripts.networks.tiny_vit import TinyViT
from tools.convert_weights.images import sam_network

ENCODER = {"widths": [8, 32, 32, 64], "depths": [1, 2, 1, 1], "windows": [3, 5, 3], "out_chans": 16}


def tiny(reduction: int) -> dict[str, torch.Tensor]:
    settings = {**SAM, "image_encoder": {**ENCODER, "reduction": reduction}}
    return seeded(sam_network(settings, TinyViT), 5)


@pytest.mark.parametrize(("reduction", "name"), [(1, "LiteMedSAM"), (4, "MobileSAM")])
@pytest.mark.parametrize("wrapper", ["", "model"])
def test_every_tensor_is_kept(publish, convert, reduction, name, wrapper):
    state = tiny(reduction)
    status, tensors, text = convert(publish(state, wrapper))
    assert status == 0, text
    assert list(tensors) == list(state) and all(torch.equal(tensors[key], value) for key, value in state.items())
    assert f"of {name}'s form" in text and "depths [1, 2, 1, 1], windows [3, 5, 3]" in text
    assert ("mobile_sam.json" in text) == (reduction == 4)


def test_mobile_sams_classifier_is_accounted_for(publish, convert):
    state = tiny(4)
    head = {
        "norm_head.weight": torch.ones(64),
        "norm_head.bias": torch.ones(64),
        "head.weight": torch.ones(9, 64),
        "head.bias": torch.ones(9),
        "layers.1.blocks.0.attn.attention_bias_idxs": torch.zeros(9, 9, dtype=torch.long),
    }
    status, tensors, text = convert(publish({**state, **{f"image_encoder.{k}": v for k, v in head.items()}}, ""))
    assert status == 0, text
    assert list(tensors) == list(state)
    assert "4 (image_encoder.norm_head.weight" in text and "classifier of photographs" in text


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.update({"surprise": torch.zeros(1)}), "1 unknown (surprise"),
        (lambda s: s.pop("image_encoder.layers.2.blocks.0.attn.qkv.bias"), "1 missing"),
        (lambda s: s.pop("image_encoder.layers.2.blocks.0.attn.attention_biases"), "attention_biases"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("mask_decoder")], "no SAM"),
        (lambda s: s.update({"image_encoder.patch_embed.seq.2.c.weight": torch.zeros(8, 4, 5, 5)}), "5 x 5"),
    ],
)
def test_what_is_none_is_refused(publish, convert, spoil, message):
    state = tiny(1)
    spoil(state)
    status, _, text = convert(publish(state, ""))
    assert status == 1 and message in text


def test_it_cannot_go_back_to_sam(publish, convert):
    status, _, text = convert(publish(tiny(1), ""), "--kind", "to_sam")
    assert status == 1 and "tiny_sam" in text
    tuned = {**tiny(1), "label_features": torch.zeros(1, 4)}
    status, _, text = convert(publish(tuned, ""), "--kind", "to_sam")
    assert status == 1 and "TinyViT" in text


def test_the_published_file(convert):
    path = lite_medsam.found()
    if path is None:
        pytest.skip(f"LiteMedSAM is not here: {lite_medsam.COMMAND} brings it")
    status, tensors, text = convert(path)
    assert status == 0, text
    assert "435 tensors of 435" in text and sum(t.numel() for t in tensors.values()) == 9_801_439
