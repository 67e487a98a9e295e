# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The joined network is SAM where SAM answers, at other sizes too; names, clicks and boxes in one call."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from small_sam import PATCH, TEXT, sam_state, small_sam
from torch import nn
from torch.nn import functional as F

from bundles.ssam_2d.scripts.checkpoints import load_start
from bundles.ssam_2d.scripts.networks import windows
from bundles.ssam_2d.scripts.networks.image_encoder import ConvStem, ImageEncoder
from bundles.ssam_2d.scripts.networks.positions import resize_absolute, resize_relative
from bundles.ssam_2d.scripts.networks.sam import ImageEncoderViT, modeling
from bundles.ssam_2d.scripts.networks.text import TextAffine

CONFIGS = Path(__file__).resolve().parents[4] / "bundles" / "ssam_2d" / "configs"


def prompts(objects: int, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(objects, 3, 2, generator=generator) * 31
    corners = torch.rand(objects, 2, 2, generator=generator) * 31
    return {
        "points": points,
        "point_labels": torch.tensor([1, 0, -1]).expand(objects, 3),
        "boxes": torch.cat([corners.amin(1), corners.amax(1)], dim=1),
        "masks": torch.randn(objects, 1, 32, 32, generator=generator),
    }


@pytest.mark.parametrize("pairs", ["kept", "not kept"])
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("grid", [(8, 8), (7, 11), (2, 2), (6, 9)])
def test_the_encoder_is_sams_on_every_grid_in_values_and_gradients(grid, relative, pairs, monkeypatch):
    """Windows of 3 tokens: whole ones, cut off at one side or at both, larger than the grid; and the whole grid."""
    monkeypatch.setattr(windows, "MANY_KEYS", 1024 if pairs == "kept" else 0)
    sizes = {"img_size": 32, "patch_size": PATCH, "embed_dim": 16, "depth": 2, "num_heads": 2, "out_chans": 16}
    sizes |= {"use_rel_pos": relative, "window_size": 3, "global_attn_indexes": (1,)}
    torch.manual_seed(0)
    plain = ImageEncoderViT(norm_layer=partial(nn.LayerNorm, eps=1e-6), **sizes)
    for name, parameter in plain.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            nn.init.normal_(parameter)
    plain.pos_embed = nn.Parameter(resize_absolute(plain.pos_embed.detach(), grid))
    ours = ImageEncoder(**sizes)
    ours.pos_embed = nn.Parameter(torch.zeros_like(plain.pos_embed))
    ours.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, *(PATCH * n for n in grid))
    answers = [encoder(image) for encoder in (plain, ours)]
    assert torch.allclose(*answers, atol=1e-5)
    weights = torch.randn_like(answers[0])
    for answer in answers:
        (answer * weights).sum().backward()
    for (name, expected), parameter in zip(plain.named_parameters(), ours.parameters(), strict=True):
        assert torch.allclose(expected.grad, parameter.grad, atol=1e-3, rtol=1e-4), name


@pytest.mark.parametrize("given", [("points",), ("boxes",), ("points", "boxes"), ("masks",), ("points", "masks")])
def test_clicks_boxes_and_masks_are_sams(given):
    network, all_prompts = small_sam(), prompts(4)
    chosen = {k: v for k, v in all_prompts.items() if k in given or (k == "point_labels" and "points" in given)}
    embedding = network.encode(torch.randn(1, 3, 32, 32))
    logits, iou = network.decode(embedding, **chosen)
    points = (chosen["points"], chosen["point_labels"]) if "points" in chosen else None
    sparse, dense = network.prompt_encoder(points, chosen.get("boxes"), chosen.get("masks"))
    code = network.prompt_encoder.get_dense_pe()
    expected, expected_iou = network.mask_decoder(embedding, code, sparse, dense, multimask_output=False)
    assert logits.shape == (1, 4, 32, 32)
    assert torch.allclose(logits[0], expected[:, 0], atol=1e-5) and torch.allclose(
        iou[0], expected_iou[:, 0], atol=1e-6
    )


@pytest.mark.parametrize("size", [(16, 16), (20, 36), (48, 24)])
def test_another_size_on_the_fly_is_the_network_built_for_it(size, tmp_path):
    """Positions resized in forward, or when a network of that size is loaded: the same; clicks at the same places."""
    network = small_sam()
    image = torch.randn(1, 3, *size)
    embedding = network.encode(image)
    assert embedding.shape == (1, 16, size[0] // PATCH, size[1] // PATCH)
    assert network(image).shape == (1, 3, *size)
    if size[0] == size[1]:
        torch.save(sam_state(network), tmp_path / "sam.pt")
        built = small_sam(size[0], seed=1)
        report = load_start(built, tmp_path / "sam.pt")
        # The block of windows keeps its relative positions, the global one has them resized.
        assert set(report.resized) == {"image_encoder.pos_embed"} | {
            f"image_encoder.blocks.1.attn.rel_pos_{axis}" for axis in "hw"
        }
        assert torch.allclose(built.encode(image), embedding, atol=1e-5)
        chosen = {k: v for k, v in prompts(2).items() if k != "masks"}
        ours, theirs = network.decode(embedding, **chosen)[0], built.decode(embedding, **chosen)[0]
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_all_labels_of_all_images_in_one_call_are_each_alone():
    network = small_sam()
    images = torch.randn(2, 3, 32, 32)
    together = network(images)
    assert together.shape == (2, 3, 32, 32)
    embedding = network.encode(images)
    calls = []
    network.mask_decoder.register_forward_hook(lambda *_: calls.append(1))
    all_at_once, iou = network.decode(embedding, network.label_features)
    assert calls == [1] and iou.shape == (2, 3)
    for i in range(2):
        for k in range(3):
            alone, score = network.decode(embedding[i : i + 1], network.label_features[k : k + 1])
            assert torch.allclose(all_at_once[i, k], alone[0, 0], atol=1e-5)
            assert torch.allclose(iou[i, k], score[0, 0], atol=1e-5)
    expected = F.interpolate(all_at_once, (32, 32), mode="bilinear", align_corners=False)
    assert torch.allclose(together, expected, atol=1e-5)
    # What the names say matters.
    assert not torch.allclose(all_at_once[:, 0], all_at_once[:, 1], atol=1e-3)


def test_a_name_and_clicks_together_differ_from_each_alone():
    network = small_sam()
    embedding, chosen = network.encode(torch.randn(1, 3, 32, 32)), prompts(3)
    clicks = {k: chosen[k] for k in ("points", "point_labels")}
    both = network.decode(embedding, network.label_features, **clicks)[0]
    for alone in (network.decode(embedding, network.label_features)[0], network.decode(embedding, **clicks)[0]):
        assert both.shape == alone.shape and not torch.allclose(both, alone, atol=1e-3)


def test_positions_are_pooled_as_the_paper_does_and_relative_ones_are_linear():
    positions = torch.randn(1, 64, 64, 6)
    pooled = F.adaptive_avg_pool2d(positions.permute(0, 3, 1, 2), 16).permute(0, 2, 3, 1)
    assert torch.allclose(resize_absolute(positions, (16, 16)), pooled, atol=1e-6)
    assert resize_absolute(positions, (96, 20)).shape == (1, 96, 20, 6)
    assert torch.equal(resize_absolute(positions, (64, 64)), positions)
    relative = torch.randn(127, 6)
    linear = F.interpolate(relative.t()[None], 31, mode="linear")[0].t()
    assert torch.allclose(resize_relative(relative, 31), linear, atol=1e-4)


def test_bad_sizes_and_prompts_are_refused():
    network = small_sam()
    with pytest.raises(ValueError, match=r"\(30, 32\) pixels; expected multiples of the patch, 4"):
        network.encode(torch.zeros(1, 3, 30, 32))
    with pytest.raises(ValueError, match="img_size 30: expected a multiple"):
        ImageEncoder(30, 4)
    with pytest.raises(ValueError, match="embed_dim 10: expected a multiple"):
        ImageEncoder(32, 4, 10, num_heads=3)
    embedding = network.encode(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="prompts for"):
        network.decode(embedding)
    with pytest.raises(ValueError, match=r"prompts for \[2, 3\] objects"):
        network.decode(embedding, network.label_features, boxes=prompts(2)["boxes"])
    with pytest.raises(ValueError, match=r"'liver'.*more than once"):
        network.set_labels(["liver", "liver"], torch.zeros(2, TEXT))
    with pytest.raises(ValueError, match="2 labels and features"):
        network.set_labels(["liver", "polyp"], torch.zeros(3, TEXT))


def test_the_stem_takes_the_place_of_the_patch_embedding():
    encoder = ImageEncoder(32, 8, 16, 1, 2, 8, stem=ConvStem([4, 8], 16))
    assert encoder(torch.randn(1, 3, 64, 32)).shape == (1, 8, 8, 4)


def test_text_affine_is_linear_relu_norm():
    layer = TextAffine(5, 7).eval()
    features = torch.randn(3, 5)
    expected = layer.norm(F.relu(layer.linear(features)))[:, None]
    assert torch.allclose(layer(features), expected, atol=1e-6)


def configured(*names: str, **settings) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / name) for name in ("inference.json", *names)])
    parser.update({"bundle_root": str(CONFIGS.parent), **settings})
    return parser


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in module.state_dict().items()}


@pytest.mark.parametrize(
    ("names", "blocks", "width", "heads", "everywhere"),
    [
        (["vit_b.json"], 12, 768, 12, (2, 5, 8, 11)),
        (["vit_b.json", "vit_l.json"], 24, 1024, 16, (5, 11, 17, 23)),
        (["vit_b.json", "vit_h.json"], 32, 1280, 16, (7, 15, 23, 31)),
    ],
)
def test_the_large_ones_have_the_tensors_of_published_checkpoints(ssam_path, names, blocks, width, heads, everywhere):
    """Keys and shapes at 1024 px, without memory for the weights themselves."""
    with torch.device("meta"):
        ours = configured(*names, image_size=1024).get_parsed_content("network_def")
        theirs = modeling.Sam(
            image_encoder=modeling.ImageEncoderViT(
                depth=blocks,
                embed_dim=width,
                img_size=1024,
                num_heads=heads,
                out_chans=256,
                use_rel_pos=True,
                window_size=14,
                global_attn_indexes=everywhere,
            ),
            prompt_encoder=modeling.PromptEncoder(256, (64, 64), (1024, 1024), 16),
            mask_decoder=modeling.MaskDecoder(
                transformer_dim=256, transformer=modeling.TwoWayTransformer(2, 256, 8, 2048)
            ),
        )
    own = {k: v for k, v in shapes(ours).items() if not k.startswith(("text_affine.", "label_"))}
    assert own == shapes(theirs)
    assert [i for i, b in enumerate(ours.image_encoder.blocks) if b.window_size == 0] == list(everywhere)
    small = configured(*names, image_size=256)["network_def"]
    assert small["image_encoder"]["depth"] == blocks


def test_the_small_base_is_small_and_its_labels_are_those_of_the_metadata(ssam_path):
    metadata = json.loads((CONFIGS / "metadata.json").read_text())["network_data_format"]["outputs"]["pred"]
    names = [metadata["channel_def"][str(i)] for i in range(1, metadata["num_channels"] + 1)]
    parser = configured()
    network = parser.get_parsed_content("network_def")
    assert network.labels == names and metadata["channel_def"]["0"] == "background"
    assert 4 * sum(v.numel() for v in network.state_dict().values()) < 20e6
