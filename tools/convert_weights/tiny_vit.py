# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""LiteMedSAM, MobileSAM and others with TinyViT in the place of SAM's encoder, to a base of the bundle ``ssam_2d``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bundles.ssam_2d.scripts.networks.tiny_vit import TinyViT

from .accounts import Conversion, account, need, part
from .images import DECODER, ENCODER, PROMPTS, prompt_settings, sam_network

# By what the patch embedding reduces an image: who trained such a SAM, at how many pixels, and its overlays.
PUBLISHED = {
    1: ("LiteMedSAM", 256, ("lite_medsam.json",)),
    4: ("MobileSAM", 1024, ("lite_medsam.json", "mobile_sam.json")),
}
# Of TinyViT's own training on photographs, which SAM's mask decoder has no use for.
KNOWN = {
    f"{ENCODER}.norm_head.*": "TinyViT's classifier of photographs",
    f"{ENCODER}.head.*": "TinyViT's classifier of photographs",
    f"{ENCODER}.*.attention_bias_idxs": "made anew from the size of the windows",
}


def tiny_sam(state: Mapping[str, Tensor]) -> Conversion:
    """A SAM with a TinyViT as a base for fine-tuning; for boxes as it is.

    Raises:
        ValueError: a part that is missing, or a tensor that is not known.
    """
    settings = tiny_settings(state)
    conversion = account(state, sam_network(settings, TinyViT).state_dict(), known=KNOWN)
    name, size, conversion.overlays = PUBLISHED[settings[ENCODER]["reduction"]]
    conversion.network = settings
    conversion.notes.append(f"of {name}'s form, for images whose longer side has {size} pixels")
    return conversion


def tiny_settings(state: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """The settings of the three parts, from the shapes of their tensors; strides show in none, and are the published.

    Raises:
        ValueError: a part that is missing, or another patch embedding.
    """
    encoder, prompts, decoder = part(state, ENCODER), part(state, PROMPTS), part(state, DECODER)
    if not (encoder and prompts and decoder):
        raise ValueError(f"no SAM: expected names that start with {ENCODER}., {PROMPTS}. and {DECODER}.")
    need(encoder, "patch_embed.seq.2.c.weight", "neck.0.weight")
    kernel = encoder["patch_embed.seq.2.c.weight"].shape[-1]
    if kernel not in (1, 3):
        raise ValueError(f"a patch embedding of {kernel} x {kernel} convolutions; expected LiteMedSAM's or MobileSAM's")
    names = [key.split(".") for key in encoder if key.startswith("layers.")]
    blocks = {(int(name[1]), int(name[3])) for name in names if name[2] == "blocks"}
    stages = range(1 + max(stage for stage, _ in blocks))
    need(encoder, *(f"layers.{i}.blocks.0.attn.attention_biases" for i in stages[1:]))
    need(encoder, *(f"layers.{i}.downsample.conv1.c.weight" for i in stages[:-1]))
    own = {
        "widths": [
            len(encoder["patch_embed.seq.2.c.weight"]),
            *(len(encoder[f"layers.{i}.downsample.conv1.c.weight"]) for i in stages[:-1]),
        ],
        "depths": [sum(stage == i for stage, _ in blocks) for i in stages],
        "windows": [math.isqrt(encoder[f"layers.{i}.blocks.0.attn.attention_biases"].shape[1]) for i in stages[1:]],
        "reduction": {1: 1, 3: 4}[kernel],
        "out_chans": len(encoder["neck.0.weight"]),
    }
    _, size, _ = PUBLISHED[own["reduction"]]
    patch = TinyViT.cell(own["reduction"])
    return {ENCODER: own, **prompt_settings(prompts, decoder, size // patch, patch)}
