# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A checkpoint of S-SAM's published code to the published form in the bundle ``ssam_2d``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bundles.ssam_2d.scripts.networks.published import PublishedImageEncoder, PublishedTextDecoder, ReformedWeight

from .accounts import Conversion, account, block_count, need, part
from .images import DECODER, ENCODER, PROMPTS, TRANSFORMER, prompt_settings

# S-SAM's own names.
ITS_ENCODER, ITS_TEXT = "sam_encoder", "Text_Embedding_Affine"
CLIP = {"clip_model.*": "CLIP: the bundle keeps the features of label names, not the model that makes them"}
# Attention heads: no tensor's shape shows them, and the published code has ViT-B alone.
HEADS = 12
# Where its layers are in SAM's encoder and in the bundle's text layer.
RENAMED = {
    f"{ITS_ENCODER}.neck.conv1.": f"{ENCODER}.neck.0.",
    f"{ITS_ENCODER}.neck.ln1.": f"{ENCODER}.neck.1.",
    f"{ITS_ENCODER}.neck.conv2.": f"{ENCODER}.neck.2.",
    f"{ITS_ENCODER}.neck.ln2.": f"{ENCODER}.neck.3.",
    f"{ITS_ENCODER}.": f"{ENCODER}.",
    f"{ITS_TEXT}.0.": "text_affine.linear.",
    f"{ITS_TEXT}.2.": "text_affine.norm.",
}


def ssam(state: Mapping[str, Tensor], labels: Mapping[str, Tensor] | None = None) -> Conversion:
    """A whole network, the singular values merged into their weights: what evaluation runs.

    Args:
        state: the checkpoint's weights.
        labels: the text features (text_dim,) of each label's name, in order.
    """
    conversion = checked(state)
    encoder = PublishedImageEncoder(**conversion.network["published"])
    encoder.load_state_dict(part(conversion.tensors, ITS_ENCODER))
    with torch.no_grad():
        merged = {
            f"{ITS_ENCODER}.{name}.weight": layer.reformed_weight()
            for name, layer in encoder.named_modules()
            if isinstance(layer, ReformedWeight)
        }
    tensors = {
        renamed(key): merged.get(key, tensor) for key, tensor in conversion.tensors.items() if not is_factor(key)
    }
    conversion.tensors = {**without_dense(tensors), "label_features": features(tensors, labels)}
    conversion.used = {
        key: renamed(key) if not is_factor(key) else f"{renamed(key).rpartition('.')[0]}.weight"
        for key in conversion.used
    }
    conversion.network = conversion.network["bundle"]
    conversion.notes.append(f"{len(merged)} layers merged: U diag(ReLU(A S + B)) V^T, at no cost over plain SAM")
    return conversion


def checked(state: Mapping[str, Tensor]) -> Conversion:
    """The checkpoint under its own names, every tensor accounted for, with the settings found in it.

    ``network`` has those of PublishedImageEncoder under ``published`` and those of the bundle's parts under ``bundle``.

    Raises:
        ValueError: another method of the same code (LoRA, biases, slice numbers, learned prompts), or no S-SAM at all.
    """
    encoder, prompts, decoder = part(state, ITS_ENCODER), part(state, PROMPTS), part(state, DECODER)
    if not (encoder and prompts and decoder):
        raise ValueError(f"no S-SAM: expected names that start with {ITS_ENCODER}., {PROMPTS}. and {DECODER}.")
    need(encoder, "pos_embed", "patch_embed.proj.weight", "neck.conv1.weight", "blocks.0.mlp.lin1.weight")
    need(encoder, "blocks.0.attn.qkv.trainable_scale")
    need(state, f"{ITS_TEXT}.0.weight")
    settings = encoder_settings(encoder)
    patch = settings["patch_size"]
    parts = prompt_settings(prompts, decoder, settings["img_size"] // patch, patch)
    width, text_dim = state[f"{ITS_TEXT}.0.weight"].shape
    expected = {f"{ITS_ENCODER}.{key}": value for key, value in meta(PublishedImageEncoder, **settings).items()}
    expected |= meta(
        PublishedTextDecoder,
        embed_dim=width,
        mask_in_chans=parts[PROMPTS]["mask_in_chans"],
        text_dim=text_dim,
        decoder_depth=parts[TRANSFORMER]["depth"],
        decoder_mlp_dim=parts[TRANSFORMER]["mlp_dim"],
        decoder_num_heads=1,
        **{key: value for key, value in parts[DECODER].items() if key != "transformer_dim"},
    )
    conversion = account(state, expected, known=CLIP)
    conversion.network = {
        "published": settings,
        "bundle": {ENCODER: settings, **parts, "text_affine": {"text_dim": text_dim, "embed_dim": width}},
    }
    return conversion


def encoder_settings(encoder: Mapping[str, Tensor]) -> dict[str, Any]:
    """Those of PublishedImageEncoder, from the shapes."""
    width, patch = encoder["pos_embed"].shape[-1], encoder["patch_embed.proj.weight"].shape[-1]
    return {
        "img_size": encoder["pos_embed"].shape[1] * patch,
        "patch_size": patch,
        "embed_dim": width,
        "depth": block_count(encoder),
        "num_heads": HEADS,
        "mlp_ratio": len(encoder["blocks.0.mlp.lin1.weight"]) // width,
        "out_chans": len(encoder["neck.conv1.weight"]),
    }


def meta(network: type[nn.Module], **settings: Any) -> dict[str, Tensor]:
    """A network's state dict on the meta device, for its names and shapes."""
    with torch.device("meta"):
        return network(**settings).state_dict()


def is_factor(key: str) -> bool:
    """Whether a name is one of the numbers A and B of a layer."""
    return key.endswith((".trainable_scale", ".trainable_shift"))


def renamed(key: str) -> str:
    """S-SAM's name of a tensor as the bundle has it."""
    old = next((old for old in RENAMED if key.startswith(old)), None)
    return key if old is None else RENAMED[old] + key.removeprefix(old)


def without_dense(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published decoder leaves out the embedding that stands for no mask; zeros do the same in SAM's own."""
    key = f"{PROMPTS}.no_mask_embed.weight"
    return {**tensors, key: torch.zeros_like(tensors[key])}


def features(tensors: Mapping[str, Tensor], labels: Mapping[str, Tensor] | None) -> Tensor:
    """(labels, text_dim); the checkpoint itself knows no names. Raises ValueError where their channels do not fit."""
    text_dim = tensors["text_affine.linear.weight"].shape[1]
    if not labels:
        return torch.zeros(0, text_dim)
    other = {name: tuple(value.shape) for name, value in labels.items() if value.shape != (text_dim,)}
    if other:
        raise ValueError(f"label features of shapes {other}; expected ({text_dim},) for each name")
    return torch.stack([value.float() for value in labels.values()])
