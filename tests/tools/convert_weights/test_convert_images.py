# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""SAM to the base of ssam_2d and back: names, sizes and what the encoder computes."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from monai.bundle import ConfigParser
from small_published import SAM

from bundles.ssam_2d.scripts.networks.image_encoder import ImageEncoder
from bundles.ssam_2d.scripts.networks.sam import ImageEncoderViT
from tools.convert_weights import images
from tools.convert_weights.report import command


@pytest.fixture(scope="module")
def build_sam():
    """segment_anything.build_sam, whose package cannot be imported where torchvision is missing."""
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "segment_anything"}
    bare = ModuleType("segment_anything")
    bare.__path__ = list(importlib.util.find_spec("segment_anything").submodule_search_locations)
    sys.modules["segment_anything"] = bare
    yield importlib.import_module("segment_anything.build_sam")
    del sys.modules["segment_anything"], sys.modules["segment_anything.build_sam"]
    sys.modules.update(before)


def tuned(sam):
    """What fine-tuning makes of a base: other values, and a text layer."""
    changed = {key: value + 0.1 for key, value in sam.items()}
    text = {"text_affine.linear.weight": torch.zeros(16, 20), "text_affine.norm.bias": torch.zeros(16)}
    return {**changed, **text, "label_features": torch.zeros(3, 20)}


def test_a_base_keeps_every_tensor(sam, publish, convert):
    for wrapper in "", "model":
        status, tensors, text = convert(publish(sam, wrapper), "--force")
        assert status == 0, text
        assert list(tensors) == list(sam)
        assert all(torch.equal(tensors[key], value) for key, value in sam.items())
        assert "window_size 3, global_attn_indexes [1, 3]" in text


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_full_size_sams(build_sam, name):
    with torch.device("meta"):
        state = build_sam.sam_model_registry[name]().state_dict()
    conversion = images.sam(state)
    assert list(conversion.tensors) == list(state)
    assert conversion.notes == [f"a SAM {name}, of images of 1024 pixels a side"]
    settings = conversion.network["image_encoder"]
    assert settings["window_size"] == 14
    # The command that is printed names overlays of this size.
    words = command("sam", conversion, Path("base.pt"))
    assert f"{name}.json" in words
    assert "--box" in words
    parser = ConfigParser()
    parser.read_config([f"bundles/ssam_2d/configs/{file}" for file in ("inference.json", *conversion.overlays)])
    for key in "patch_size", "embed_dim", "depth", "num_heads", "out_chans", "window_size", "global_attn_indexes":
        assert parser[f"network_def#image_encoder#{key}"] == settings[key]


def test_the_own_size_is_exact(sam, publish, convert):
    """What segment_anything builds of the same size takes the file, and encodes alike."""
    status, tensors, text = convert(publish(tuned(sam), ""), "--kind", "to_sam", "--image_size", "64")
    assert status == 0, text
    assert list(tensors) == list(sam)
    assert "SAM has no text layer" in text
    assert "positions resized" not in text
    encoders = (
        ImageEncoder(**SAM["image_encoder"]),
        ImageEncoderViT(
            **SAM["image_encoder"], use_rel_pos=True, norm_layer=lambda width: torch.nn.LayerNorm(width, eps=1e-6)
        ),
    )
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for encoder, state in zip(encoders, (tuned(sam), tensors), strict=True):
            encoder.load_state_dict(images.part(state, "image_encoder"))
        ours, theirs = (encoder(image) for encoder in encoders)
    torch.testing.assert_close(ours, theirs)


def test_another_size_resizes_positions_and_says_so(sam, publish, convert):
    status, tensors, text = convert(publish(tuned(sam), ""), "--image_size", "128")
    assert status == 0, text
    assert "tuned at 64 pixels, its positions resized for 128" in text
    assert tensors["image_encoder.pos_embed"].shape == (1, 16, 16, 16)
    lengths = [len(tensors[f"image_encoder.blocks.{i}.attn.rel_pos_h"]) for i in range(4)]
    assert lengths == [5, 31, 5, 31]
    unchanged = [key for key in sam if "pos" not in key.rpartition(".")[2]]
    assert all(torch.equal(tensors[key], sam[key] + 0.1) for key in unchanged)


@pytest.mark.parametrize("size", [256, 224, 512, 1024])
@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_a_tuned_vit_fits_what_build_sam_makes(build_sam, name, size):
    """Full sizes, without memory: names and shapes are those of segment_anything's own."""
    with torch.device("meta"):
        expected = build_sam.sam_model_registry[name]().state_dict()
    settings = images.sam(expected).network
    settings["image_encoder"]["img_size"] = size
    ours = images.sam_network(settings).state_dict()
    assert ours["image_encoder.pos_embed"].shape[1] == size // 16
    conversion = images.to_sam({**ours, "label_features": torch.zeros(1, 512, device="meta")})
    assert {k: v.shape for k, v in conversion.tensors.items()} == {k: v.shape for k, v in expected.items()}
    assert f"sam_model_registry['{name}']" in conversion.notes[0]
    assert len(conversion.notes) == (1 if size == 1024 else 2)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.update({"image_encoder.patch_embed.0.weight": torch.zeros(1)}), "several convolutions"),
        (lambda s: s.update({"image_encoder.blocks.0.attn.qkv.scale": torch.zeros(1)}), "not merged"),
        (lambda s: [s.pop(k) for k in list(s) if "rel_pos" in k], "rel_pos_h"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("mask_decoder")], "no SAM"),
        (lambda s: s.update({"surprise": torch.zeros(1)}), "1 unknown .surprise"),
    ],
)
def test_what_is_no_sam(sam, publish, convert, spoil, message):
    state = tuned(sam)
    spoil(state)
    with pytest.raises(ValueError, match=message):
        images.to_sam(state)
    assert convert(publish(state, ""))[0] == 1


@pytest.mark.parametrize("size", [0, 60, -8])
def test_a_size_that_is_no_multiple_of_the_patch(sam, size):
    with pytest.raises(ValueError, match="multiple of 8"):
        images.to_sam(tuned(sam), size)
