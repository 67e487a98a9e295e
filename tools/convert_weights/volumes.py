# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""SAM-Med3D and FastSAM3D to the published forms in the bundle ``fastsam3d``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bundles.fastsam3d.scripts.networks.fastsam3d import FastSAM3D
from bundles.fastsam3d.scripts.networks.image_encoder import ImageEncoder3D
from bundles.fastsam3d.scripts.networks.mask_decoder import MaskDecoder3D
from bundles.fastsam3d.scripts.networks.prompt_encoder import PromptEncoder3D
from bundles.fastsam3d.scripts.networks.published import PublishedStudent3D, SwappedFourierCode

from .accounts import WORKFLOW, Conversion, account, block_count, encoder_sizes, need, part

ENCODER, PROMPTS, DECODER = "image_encoder", "prompt_encoder", "mask_decoder"
# Attention heads of the mask decoder: no tensor's shape shows them, and every published one has as many.
DECODER_HEADS = 8


def sammed3d(state: Mapping[str, Tensor]) -> Conversion:
    """SAM-Med3D, or its turbo, as a full model."""
    need(state, f"{ENCODER}.pos_embed")
    encoder = part(state, ENCODER)
    settings = {ENCODER: teacher_settings(encoder), **prompt_settings(state)}
    conversion = account(state, joined(ImageEncoder3D, settings).state_dict())
    conversion.network = with_cube(settings)
    return conversion


def sammed3d_teacher(state: Mapping[str, Tensor]) -> Conversion:
    """SAM-Med3D's image encoder alone, FastSAM3D's teacher."""
    need(state, f"{ENCODER}.pos_embed")
    settings = teacher_settings(part(state, ENCODER))
    with torch.device("meta"):
        expected = ImageEncoder3D(**settings).state_dict()
    unneeded = dict.fromkeys((f"{PROMPTS}.*", f"{DECODER}.*"), "the image encoder alone was asked for")
    conversion = account(state, expected, lambda key: key.removeprefix(f"{ENCODER}."), unneeded)
    conversion.network = {ENCODER: settings}
    return conversion


def fastsam3d(state: Mapping[str, Tensor], decoder: Mapping[str, Tensor] | None = None) -> Conversion:
    """FastSAM3D's student with the prompt encoder and mask decoder that it is used with.

    Args:
        state: a whole FastSAM3D, or the distilled image encoder alone, whose names then have no ``image_encoder.``.
        decoder: SAM-Med3D (or a FastSAM3D) whose prompt encoder and mask decoder are taken, for an encoder alone.

    Raises:
        ValueError: tensors that do not fit, an encoder alone without ``decoder``, or a ``decoder`` not needed.
    """
    if not any(key.startswith(f"{ENCODER}.") for key in state):
        state = {f"{ENCODER}.{key}": value for key, value in state.items()}
    whole = any(key.startswith((f"{PROMPTS}.", f"{DECODER}.")) for key in state)
    if whole and decoder is not None:
        raise ValueError("the checkpoint has a prompt encoder and a mask decoder of its own; leave out --decoder")
    if not whole and decoder is None:
        raise ValueError(
            "the checkpoint is an image encoder alone; give the SAM-Med3D checkpoint that its prompt encoder and mask "
            "decoder come from by --decoder FILE"
        )
    # The other file's image encoder has the same names as the student's.
    encoder = f"{ENCODER}."
    others = {f"decoder/{key}" if key.startswith(encoder) else key: value for key, value in (decoder or {}).items()}
    prompts = state if decoder is None else decoder
    settings = {ENCODER: student_settings(part(state, ENCODER)), **prompt_settings(prompts)}
    unneeded = {f"decoder/{encoder}*": "the student replaces it"}
    expected = joined(PublishedStudent3D, settings).state_dict()
    conversion = account({**state, **others}, expected, known=unneeded)
    conversion.network = with_cube(settings)
    return conversion


def with_cube(settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The settings with the size of the cubes that the encoder was trained on."""
    return {WORKFLOW: {"cube_size": settings[ENCODER]["img_size"]}, **settings}


def joined(encoder: type[nn.Module], settings: Mapping[str, Mapping[str, Any]]) -> FastSAM3D:
    """A network of these settings on the meta device, for its names and shapes."""
    with torch.device("meta"):
        width = settings[PROMPTS]["embed_dim"]
        return FastSAM3D(
            encoder(**settings[ENCODER]),
            PromptEncoder3D(**settings[PROMPTS], code=SwappedFourierCode(width)),
            # Heads change no shape, and those of a checkpoint of another width may be others.
            MaskDecoder3D(**{**settings[DECODER], "heads": 1}),
        )


def encoder_settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What both image encoders have, from the shapes; position tables tell the heads."""
    need(state, "pos_embed", "patch_embed.proj.weight", "neck.0.weight", "blocks.0.mlp.lin1.weight")
    if state["pos_embed"].ndim != 5 or state["patch_embed.proj.weight"].ndim != 5:
        raise ValueError("its image encoder is one for 2D images; expected a 3D one: give another --kind")
    tables = [value for key, value in state.items() if key.endswith("attn.rel_pos_d")]
    if not tables:
        raise ValueError("expected relative positions (blocks.*.attn.rel_pos_d), as every published encoder has them")
    heads = state["pos_embed"].shape[-1] // tables[0].shape[1]
    return encoder_sizes(state, block_count(state), heads, "neck.0.weight")


def without_attention(state: Mapping[str, Tensor]) -> list[int]:
    """The encoder's blocks that have no attention."""
    return [i for i in range(block_count(state)) if f"blocks.{i}.attn.qkv.weight" not in state]


def teacher_settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """SAM-Med3D's; a block's position table is as long as its windows ask, or the grid where it has none."""
    settings = encoder_settings(state)
    if without_attention(state):
        raise ValueError("its first blocks have no attention: a student of FastSAM3D; expected SAM-Med3D's encoder")
    whole = 2 * state["pos_embed"].shape[1] - 1
    lengths = [len(state[f"blocks.{i}.attn.rel_pos_d"]) for i in range(settings["depth"])]
    windows = sorted({(length + 1) // 2 for length in lengths if length != whole})
    if len(windows) > 1:
        raise ValueError(f"windows of {windows} tokens in one encoder; expected one size, as published")
    settings["global_attn_indexes"] = [i for i, length in enumerate(lengths) if length == whole]
    settings["window_size"] = windows[0] if windows else 0
    return settings


def student_settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """FastSAM3D's."""
    settings, bare = encoder_settings(state), without_attention(state)
    if not bare or bare != list(range(len(bare))):
        raise ValueError(
            f"blocks without attention: {bare}; expected the first ones of the encoder, as in FastSAM3D's student "
            "(SAM-Med3D's encoder has none: --kind sammed3d)"
        )
    settings["skip_layer"] = len(bare)
    return settings


def prompt_settings(state: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Those of the prompt encoder and the mask decoder."""
    prompts, decoder = part(state, PROMPTS), part(state, DECODER)
    need(prompts, "no_mask_embed.weight", "mask_downscaling.3.weight")
    need(decoder, "transformer.layers.0.mlp.lin1.weight", "mask_tokens.weight", "iou_prediction_head.layers.0.weight")
    width = prompts["no_mask_embed.weight"].shape[1]
    return {
        PROMPTS: {"embed_dim": width, "mask_in_chans": len(prompts["mask_downscaling.3.weight"])},
        DECODER: {
            "embed_dim": width,
            "depth": 1 + max(int(key.split(".")[2]) for key in decoder if key.startswith("transformer.layers.")),
            "heads": DECODER_HEADS,
            "mlp_dim": len(decoder["transformer.layers.0.mlp.lin1.weight"]),
            "num_multimask_outputs": len(decoder["mask_tokens.weight"]) - 1,
            "iou_head_depth": sum(
                key.startswith("iou_prediction_head.layers.") and key.endswith(".weight") for key in decoder
            ),
            "iou_head_hidden_dim": len(decoder["iou_prediction_head.layers.0.weight"]),
        },
    }
