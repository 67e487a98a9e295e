# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""SAM-Med3D and FastSAM3D: every tensor goes where it belongs, and the networks compute what was published."""

import pytest
import torch
from monai.bundle import ConfigParser
from small_published import SIZES_3D, gives_the_reference_outputs

from bundles.fastsam3d.scripts.networks.fastsam3d import FastSAM3D
from bundles.fastsam3d.scripts.networks.image_encoder import ImageEncoder3D
from bundles.fastsam3d.scripts.networks.mask_decoder import MaskDecoder3D
from bundles.fastsam3d.scripts.networks.prompt_encoder import PromptEncoder3D
from bundles.fastsam3d.scripts.networks.published import PublishedStudent3D, SwappedFourierCode
from tools.convert_weights import volumes


def without_encoder(state):
    return {key: value for key, value in state.items() if not key.startswith("image_encoder.")}


def encoder_alone(state):
    return {k.removeprefix("image_encoder."): v for k, v in state.items() if k.startswith("image_encoder.")}


def same(given, expected):
    return list(given) == list(expected) and all(torch.equal(given[k], v) for k, v in expected.items())


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_a_whole_student(student, publish, convert, prefix):
    status, tensors, text = convert(publish(student, prefix=prefix))
    assert status == 0, text
    assert same(tensors, student)
    for line in (
        "kind        fastsam3d",
        f"used        {len(student)} tensors of {len(student)}",
        "unknown     0 tensors",
    ):
        assert line in text
    assert "optimizer_state_dict" in text
    assert ("prefix module." in text) == bool(prefix)


def test_a_student_alone_takes_the_decoder_of_sam_med3d(student, teacher, publish, convert):
    alone, whole = publish(encoder_alone(student), name="encoder.pth"), publish(teacher, name="teacher.pth")
    status, _, text = convert(alone)
    assert status == 1
    assert "image encoder alone; give the SAM-Med3D checkpoint" in text
    status, tensors, text = convert(alone, "--kind", "fastsam3d", "--decoder", whole)
    assert status == 0, text
    assert same(tensors, {**{k: student[k] for k in student if "image_encoder" in k}, **without_encoder(teacher)})
    assert "the student replaces it" in text
    status, _, text = convert(publish(student), "--decoder", whole, "--force")
    assert status == 1
    assert "leave out --decoder" in text


def test_the_teacher_and_the_full_model(teacher, publish, convert):
    path = publish(teacher)
    status, tensors, text = convert(path, "--kind", "sammed3d_teacher", name="teacher.pt")
    assert status == 0, text
    assert same(tensors, encoder_alone(teacher))
    ImageEncoder3D(**SIZES_3D, global_attn_indexes=[1, 3], window_size=3).load_state_dict(tensors)
    assert f"{len(without_encoder(teacher))} (prompt_encoder" in text
    status, tensors, text = convert(path, name="full.pt")
    assert status == 0, text
    assert same(tensors, teacher)
    assert "global_attn_indexes [1, 3], window_size 3" in text


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.update({"image_encoder.extra": torch.zeros(1)}), r"1 unknown \(image_encoder.extra\)"),
        (lambda s: s.pop("mask_decoder.iou_token.weight"), r"1 missing \(mask_decoder.iou_token.weight\)"),
        (lambda s: s.pop("image_encoder.pos_embed"), "no pos_embed"),
        (lambda s: s.update({"prompt_encoder.not_a_point_embed.weight": torch.zeros(1, 25)}), r"\(1, 25\) instead of"),
        (lambda s: s.update({"image_encoder.blocks.3.attn.rel_pos_d": torch.zeros(9, 6)}), "of another size"),
        (
            lambda s: [s.pop(k) for k in list(s) if "blocks.2.attn.qkv" in k],
            "7 unknown",
        ),
    ],
)
def test_a_spoilt_student(student, publish, convert, spoil, message):
    spoil(student)
    status, tensors, text = convert(publish(student), "--kind", "fastsam3d")
    assert status == 1
    assert tensors is None
    assert pytest.raises(ValueError, volumes.fastsam3d, student).match(message)
    assert "not converted: " in text
    assert "published.pth" in text


def test_windows_of_two_sizes_are_none_of_sam_med3d(teacher):
    teacher["image_encoder.blocks.0.attn.rel_pos_d"] = torch.zeros(3, 6)
    with pytest.raises(ValueError, match="windows of"):
        volumes.sammed3d(teacher)


def full_size(files):
    """The network of these configurations at full size, without memory."""
    parser = ConfigParser()
    parser.read_config([f"bundles/fastsam3d/configs/{name}" for name in files])
    with torch.device("meta"):
        return parser.get_parsed_content("network_def")


def test_full_size_students(fastsam3d_path):
    """The published sizes: what the converter reads off the shapes is what the overlay has."""
    network = full_size(["inference.json", "published.json"])
    state = network.state_dict()
    conversion = volumes.fastsam3d(state)
    assert list(conversion.tensors) == list(state)
    assert conversion.network["image_encoder"] == {
        "img_size": 128,
        "patch_size": 16,
        "embed_dim": 768,
        "depth": 6,
        "num_heads": 6,
        "mlp_ratio": 4,
        "out_chans": 384,
        "skip_layer": 2,
    }
    shapes = {key: tuple(value.shape) for key, value in conversion.tensors.items()}
    assert shapes["image_encoder.pos_embed"] == (1, 8, 8, 8, 768)
    assert shapes["image_encoder.blocks.2.attn.rel_pos_d"] == (15, 128)
    assert shapes["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"] == (3, 128)
    assert shapes["mask_decoder.output_upscaling.0.weight"] == (384, 96, 2, 2, 2)
    assert not [
        key for key in shapes if key.startswith(("image_encoder.blocks.0.attn", "image_encoder.blocks.1.norm1"))
    ]


def test_full_size_sam_med3d(fastsam3d_path):
    network = full_size(["inference.json", "published.json", "published_sammed3d.json"])
    state = network.state_dict()
    conversion = volumes.sammed3d(state)
    assert list(conversion.tensors) == list(state)
    settings = conversion.network["image_encoder"]
    assert (settings["depth"], settings["num_heads"], settings["window_size"]) == (12, 12, 14)
    assert settings["global_attn_indexes"] == [2, 5, 8, 11]
    # SAM-Med3D's authors count 100.51 million.
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == 100.51
    teacher = volumes.sammed3d_teacher(state)
    assert list(teacher.tensors) == list(ImageEncoder3D().state_dict())


def test_a_converted_student_gives_the_reference_outputs(golden_student, publish, convert):
    state, encoder, decoder = golden_student
    status, tensors, text = convert(publish(state, prefix="module."))
    assert status == 0, text
    settings = volumes.fastsam3d(state).network
    width = settings["prompt_encoder"]["embed_dim"]
    network = FastSAM3D(
        PublishedStudent3D(**settings["image_encoder"]),
        PromptEncoder3D(**settings["prompt_encoder"], code=SwappedFourierCode(width)),
        MaskDecoder3D(**settings["mask_decoder"]),
        zeros_for_no_mask=True,
    ).eval()
    network.load_state_dict(tensors)
    gives_the_reference_outputs(network, encoder, decoder)
