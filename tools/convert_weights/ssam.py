# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A checkpoint of S-SAM's published code to the published form in the bundle ``ssam_2d``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bundles.ssam_2d.scripts.networks.image_encoder import ImageEncoder
from bundles.ssam_2d.scripts.networks.published import (
    PositionFreeTransformer,
    PublishedImageEncoder,
    PublishedTextDecoder,
    ReformedWeight,
)
from bundles.ssam_2d.scripts.networks.sam import MaskDecoder, PromptEncoder
from bundles.ssam_2d.scripts.networks.ssam import LABEL_TENSORS, SSAM
from bundles.ssam_2d.scripts.networks.text import TextAffine
from common import label_names
from common.svd_affine import Adapter, adapt

from .accounts import WORKFLOW, Conversion, account, block_count, encoder_sizes, need, part
from .images import DECODER, ENCODER, PROMPTS, TRANSFORMER, prompt_settings

# S-SAM's own names.
ITS_ENCODER, ITS_TEXT = "sam_encoder", "Text_Embedding_Affine"
CLIP = {"clip_model.*": "CLIP: the bundle keeps the features of label names, not the model that makes them"}
# Attention heads: no tensor's shape shows them, and the published code has ViT-B alone.
HEADS = 12
NO_MASK = f"{PROMPTS}.no_mask_embed.weight"
# What its code adapts, and what it trains as it is, by the bundle's names.
TARGETS = [f"{ENCODER}.blocks.*.attn.{name}" for name in ("qkv", "proj")]
TARGETS += [f"{ENCODER}.blocks.*.mlp.{name}" for name in ("lin1", "lin2")] + [f"{ENCODER}.neck.{i}" for i in (0, 2)]
TRAINED = [f"{ENCODER}.blocks.*.norm?.*", f"{ENCODER}.pos_embed", f"{DECODER}.*norm*", "text_affine.*"]
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
    merged = merged_weights(conversion)
    base = base_tensors(conversion)
    text = {renamed(key): tensor for key, tensor in conversion.tensors.items() if key.startswith(ITS_TEXT)}
    conversion.tensors = {**base, **merged, **text, "label_features": features(text, labels)}
    conversion.tensors[label_names.KEY] = label_names.to_tensor(list(labels or {}))
    conversion.network = conversion.network["bundle"]
    conversion.notes.append(f"{len(merged)} layers merged: U diag(ReLU(A S + B)) V^T, at no cost over plain SAM")
    if not labels:
        conversion.notes.append("no labels: give them by --labels, or a text_model to the bundle for every name")
    return conversion


def named(state: Mapping[str, Tensor], names: Sequence[str]) -> Conversion:
    """A network of the bundle that holds no names of its labels, with these.

    Raises:
        ValueError: one that has names, or another number of labels.
    """
    if label_names.KEY in state:
        held = ", ".join(label_names.from_tensor(state[label_names.KEY]))
        raise ValueError(f"it holds the names {held} already: leave --labels out")
    if len(names) != len(state["label_features"]):
        raise ValueError(f"{len(state['label_features'])} labels; expected a name for each: --labels has {list(names)}")
    tensors = {**state, label_names.KEY: label_names.to_tensor(names)}
    return Conversion(tensors, {key: key for key in state}, notes=[f"names added: {', '.join(names)}"])


def ssam_base(state: Mapping[str, Tensor]) -> Conversion:
    """The SAM that the checkpoint was tuned on, as the base of its adapter."""
    conversion = checked(state)
    conversion.tensors = base_tensors(conversion)
    for key in [key for key in conversion.used if is_factor(key) or key.startswith(ITS_TEXT)]:
        del conversion.used[key]
        conversion.unused[key] = "it belongs to the adapter"
    conversion.network = conversion.network["bundle"]
    return conversion


def ssam_adapter(state: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> Conversion:
    """What was tuned, as an adapter of that base.

    Raises:
        ValueError: see :func:`checked`; no labels, which an adapter of the bundle needs.
    """
    if not labels:
        raise ValueError("an adapter carries the features of its labels: give them by --labels FILE")
    conversion = checked(state)
    merged, base = merged_weights(conversion), base_tensors(conversion)
    network = tuned_network(conversion.network["bundle"])
    network.load_state_dict(base, strict=False)
    adaptation = adapt(network, "svd_affine", TARGETS, trainable=TRAINED, apart=LABEL_TENSORS)
    tuned = {renamed(key): tensor for key, tensor in conversion.tensors.items()}
    ours = {f"{name}.{leaf}": f"{name}.trainable_{leaf}" for name in adaptation.layers for leaf in ("scale", "shift")}
    names = adaptation.take().tensors
    text = {key: tensor for key, tensor in tuned.items() if key.startswith("text_affine.")}
    features(text, labels)
    conversion.adapter = Adapter(
        adaptation.method, adaptation.base, {name: tuned[ours.get(name, name)] for name in names}, dict(labels)
    )
    adaptation.put(conversion.adapter)
    adaptation.merge()
    layers = dict(network.named_parameters())
    errors = [torch.dist(layers[key], weight) / torch.linalg.vector_norm(weight) for key, weight in merged.items()]
    for key in [key for key in conversion.used if key not in used_by(conversion.adapter, conversion.used)]:
        del conversion.used[key]
        conversion.unused[key] = "frozen: it belongs to the base (--kind ssam_base)"
    conversion.tensors, conversion.network = conversion.adapter.tensors, conversion.network["bundle"]
    conversion.notes += [
        f"an adapter of the base {adaptation.base[:12]}...: --kind ssam_base writes it",
        "factored anew in double precision: a merged weight differs by at most "
        f"{max(errors).item():.1e} of its norm from the published one",
    ]
    return conversion


def used_by(adapter: Adapter, used: Mapping[str, str]) -> set[str]:
    """The names in the checkpoint of what an adapter holds."""
    return {key for key in used if is_factor(key) or renamed(key) in adapter.tensors}


def merged_weights(conversion: Conversion) -> dict[str, Tensor]:
    """The re-formed weights under the bundle's names, computed as the published code did."""
    encoder = PublishedImageEncoder(**conversion.network["published"])
    encoder.load_state_dict(part(conversion.tensors, ITS_ENCODER))
    with torch.no_grad():
        return {
            renamed(f"{ITS_ENCODER}.{name}.weight"): layer.reformed_weight()
            for name, layer in encoder.named_modules()
            if isinstance(layer, ReformedWeight)
        }


def base_tensors(conversion: Conversion) -> dict[str, Tensor]:
    """SAM's three parts, their weights as they were before tuning, under the bundle's names."""
    tensors = {
        renamed(key): tensor
        for key, tensor in conversion.tensors.items()
        if not is_factor(key) and not key.startswith(ITS_TEXT)
    }
    # The published decoder leaves out the embedding that stands for no mask; zeros do the same in SAM's own.
    tensors[NO_MASK] = torch.zeros_like(tensors[NO_MASK])
    return tensors


def tuned_network(settings: Mapping[str, Mapping[str, Any]]) -> SSAM:
    """The bundle's network in the published form, without labels."""
    transformer = PositionFreeTransformer(**{**settings[TRANSFORMER], "num_heads": 1})
    return SSAM(
        ImageEncoder(**settings[ENCODER], window_size=0, use_rel_pos=False, norm_eps=1e-5),
        PromptEncoder(**settings[PROMPTS]),
        MaskDecoder(**settings[DECODER], transformer=transformer),
        TextAffine(**settings["text_affine"]),
        text_dim=settings["text_affine"]["text_dim"],
    )


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
        "bundle": {
            WORKFLOW: {"image_size": settings["img_size"], "text_dim": text_dim},
            ENCODER: settings,
            **parts,
            "text_affine": {"text_dim": text_dim, "embed_dim": width},
        },
    }
    return conversion


def encoder_settings(encoder: Mapping[str, Tensor]) -> dict[str, Any]:
    """Those of PublishedImageEncoder, from the shapes."""
    return encoder_sizes(encoder, block_count(encoder), HEADS, "neck.conv1.weight")


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


def features(text: Mapping[str, Tensor], labels: Mapping[str, Tensor] | None) -> Tensor:
    """(labels, text_dim); the checkpoint itself knows no names. Raises ValueError where their channels do not fit."""
    text_dim = text["text_affine.linear.weight"].shape[1]
    if not labels:
        return torch.zeros(0, text_dim)
    other = {name: tuple(value.shape) for name, value in labels.items() if value.shape != (text_dim,)}
    if other:
        raise ValueError(f"label features of shapes {other}; expected ({text_dim},) for each name")
    return torch.stack([value.float() for value in labels.values()])
