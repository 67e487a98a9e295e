# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""SAM and MedSAM to the base of the bundle ``ssam_2d``, and a network of the bundle back to a plain SAM."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bundles.ssam_2d.scripts.checkpoints import resized
from bundles.ssam_2d.scripts.networks.image_encoder import ImageEncoder
from bundles.ssam_2d.scripts.networks.sam import MaskDecoder, PromptEncoder, TwoWayTransformer

from .accounts import Conversion, account, block_count, need, part

ENCODER, PROMPTS, DECODER = "image_encoder", "prompt_encoder", "mask_decoder"
TRANSFORMER = "mask_decoder#transformer"
# What segment_anything's build_sam makes: width and blocks, and the name of its function.
SIZES = {(768, 12): "vit_b", (1024, 24): "vit_l", (1280, 32): "vit_h"}
# The bundle's overlays for them: the larger ones go on top of the small one.
OVERLAYS = {"vit_b": ("vit_b.json",), "vit_l": ("vit_b.json", "vit_l.json"), "vit_h": ("vit_b.json", "vit_h.json")}
# Pixels a side of the images that it makes them for, and tokens a side of their attention's windows.
SAM_SIZE, SAM_WINDOW = 1024, 14
# Attention heads of the mask decoder: no tensor's shape shows them, and every published one has as many.
DECODER_HEADS = 8
# What a network of this project has beside SAM's parts.
OURS = {"text_affine.*": "SAM has no text layer", "label_*": "SAM has no label names"}


def sam(state: Mapping[str, Tensor]) -> Conversion:
    """SAM ViT-B, L or H, or a network of their kind such as MedSAM, as a base for fine-tuning."""
    settings = sam_settings(state)
    conversion = account(state, sam_network(settings).state_dict())
    conversion.network, conversion.overlays = settings, OVERLAYS.get(size_name(settings), ())
    conversion.notes.append(f"a SAM {size_name(settings)}, of images of {settings[ENCODER]['img_size']} pixels a side")
    return conversion


def to_sam(state: Mapping[str, Tensor], image_size: int = SAM_SIZE) -> Conversion:
    """A (merged) network of ``ssam_2d`` as a plain SAM, its positions for images of ``image_size`` pixels.

    Raises:
        ValueError: a network that is no SAM in its parts, or a size that is no multiple of its patch.
    """
    if any(key.endswith((".scale", ".shift", ".trainable_scale")) for key in state):
        raise ValueError("singular values that are not merged into their weights; give the merged network, model.pt")
    if any(key.startswith(f"{ENCODER}.patch_embed.0.") for key in state):
        raise ValueError(
            "its patches are embedded by several convolutions, as in this project's own small base; no SAM tool has "
            "such an encoder: only networks tuned from SAM's own weights can go back"
        )
    if any(key.startswith(f"{ENCODER}.patch_embed.seq.") for key in state):
        raise ValueError("its encoder is a TinyViT, as LiteMedSAM's and MobileSAM's, not SAM's: no SAM tool takes it")
    settings = sam_settings(state)
    own = settings[ENCODER]["img_size"]
    if image_size < 1 or image_size % settings[ENCODER]["patch_size"]:
        raise ValueError(f"image_size {image_size}: expected a multiple of {settings[ENCODER]['patch_size']}")
    target = {**settings, ENCODER: {**settings[ENCODER], "img_size": image_size}}
    expected = sam_network(target).state_dict()
    fitting = {key: resized(key, value, expected[key]) if key in expected else value for key, value in state.items()}
    conversion = account(fitting, expected, known=OURS)
    conversion.network = target
    conversion.notes += where_it_runs(size_name(settings), own, image_size)
    return conversion


def where_it_runs(name: str, own: int, image_size: int) -> list[str]:
    """Which tools take a SAM of this name, tuned at ``own`` pixels and written for images of ``image_size``."""
    notes = [f"loads into segment_anything.sam_model_registry['{name}'](checkpoint=FILE), and what is built on it"]
    if name not in SIZES.values() or image_size != SAM_SIZE:
        notes = [
            f"a SAM {name} for {image_size} pixels: segment_anything's build_sam makes {', '.join(SIZES.values())} for "
            f"{SAM_SIZE} pixels alone and refuses it; segment_anything.modeling.Sam of the sizes above takes it"
        ]
    if image_size != own:
        notes.append(
            f"tuned at {own} pixels, its positions resized for {image_size}: it runs on a grid that it was not tuned "
            f"on, and its masks differ from those at {own}. --image_size {own} keeps it exact, for tools that can be "
            f"told the size; tuning at {SAM_SIZE} pixels does so for all tools"
        )
    return notes


def sam_settings(state: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """The settings of SAM's three parts, from the shapes of their tensors.

    Raises:
        ValueError: a part that is missing, or an encoder of another kind.
    """
    encoder, prompts, decoder = part(state, ENCODER), part(state, PROMPTS), part(state, DECODER)
    if not (encoder and prompts and decoder):
        raise ValueError(f"no SAM: expected names that start with {ENCODER}., {PROMPTS}. and {DECODER}.")
    need(encoder, "pos_embed", "patch_embed.proj.weight", "neck.0.weight", "blocks.0.mlp.lin1.weight")
    if encoder["pos_embed"].ndim != 4 or encoder["patch_embed.proj.weight"].ndim != 4:
        raise ValueError("its image encoder is one for volumes; expected one for 2D images: give another --kind")
    need(encoder, "blocks.0.attn.rel_pos_h")
    width, patch, depth = (
        encoder["pos_embed"].shape[-1],
        encoder["patch_embed.proj.weight"].shape[-1],
        block_count(encoder),
    )
    grid = encoder["pos_embed"].shape[1]
    lengths = [len(encoder[f"blocks.{i}.attn.rel_pos_h"]) for i in range(depth)]
    windows = sorted({(length + 1) // 2 for length in lengths if length != 2 * grid - 1})
    if len(windows) > 1:
        raise ValueError(f"windows of {windows} tokens in one encoder; expected one size, as every SAM has")
    window, everywhere = (windows or [0])[0], [i for i, length in enumerate(lengths) if length == 2 * grid - 1]
    if not windows and grid == SAM_WINDOW and (width, depth) in SIZES:
        # Windows as large as the grid: the tables do not tell, and SAM's own places are taken.
        window, everywhere = SAM_WINDOW, list(range(depth // 4 - 1, depth, depth // 4))
    return {
        ENCODER: {
            "img_size": grid * patch,
            "patch_size": patch,
            "embed_dim": width,
            "depth": depth,
            "num_heads": width // encoder["blocks.0.attn.rel_pos_h"].shape[1],
            "mlp_ratio": len(encoder["blocks.0.mlp.lin1.weight"]) // width,
            "out_chans": len(encoder["neck.0.weight"]),
            "window_size": window,
            "global_attn_indexes": everywhere,
        },
        **prompt_settings(prompts, decoder, grid, patch),
    }


def prompt_settings(
    prompts: Mapping[str, Tensor], decoder: Mapping[str, Tensor], grid: int, patch: int
) -> dict[str, dict[str, Any]]:
    """Those of SAM's prompt encoder and mask decoder, as their classes and the bundle's configuration have them."""
    need(prompts, "no_mask_embed.weight", "mask_downscaling.3.weight")
    need(decoder, "transformer.layers.0.mlp.lin1.weight", "mask_tokens.weight", "iou_prediction_head.layers.0.weight")
    width, head = prompts["no_mask_embed.weight"].shape[1], "iou_prediction_head.layers."
    return {
        PROMPTS: {
            "embed_dim": width,
            "image_embedding_size": [grid, grid],
            "input_image_size": [grid * patch, grid * patch],
            "mask_in_chans": len(prompts["mask_downscaling.3.weight"]),
        },
        DECODER: {
            "transformer_dim": width,
            "num_multimask_outputs": len(decoder["mask_tokens.weight"]) - 1,
            "iou_head_depth": sum(key.startswith(head) and key.endswith(".weight") for key in decoder),
            "iou_head_hidden_dim": len(decoder[f"{head}0.weight"]),
        },
        TRANSFORMER: {
            "depth": 1 + max(int(key.split(".")[2]) for key in decoder if key.startswith("transformer.layers.")),
            "embedding_dim": width,
            "num_heads": DECODER_HEADS,
            "mlp_dim": len(decoder["transformer.layers.0.mlp.lin1.weight"]),
        },
    }


def sam_network(
    settings: Mapping[str, Mapping[str, Any]], encoder: Callable[..., nn.Module] = ImageEncoder
) -> nn.ModuleDict:
    """A SAM of these settings on the meta device, for its names and shapes."""
    with torch.device("meta"):
        # Heads change no shape, and those of a checkpoint of another width may be others.
        transformer = TwoWayTransformer(**{**settings[TRANSFORMER], "num_heads": 1})
        return nn.ModuleDict(
            {
                ENCODER: encoder(**settings[ENCODER]),
                PROMPTS: PromptEncoder(**settings[PROMPTS]),
                DECODER: MaskDecoder(**settings[DECODER], transformer=transformer),
            }
        )


def size_name(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """What segment_anything calls an encoder of this width and depth."""
    encoder = settings[ENCODER]
    own = f"of {encoder['depth']} blocks of width {encoder['embed_dim']}"
    return SIZES.get((encoder["embed_dim"], encoder["depth"]), own)
