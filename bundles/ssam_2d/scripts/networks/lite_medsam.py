# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""LiteMedSAM: SAM's prompt encoder and mask decoder behind a TinyViT, for images whose longer side has 256 pixels."""

from __future__ import annotations

from torch import nn

from .sam import MaskDecoder, PromptEncoder, TwoWayTransformer
from .ssam import SSAM
from .text import TextAffine
from .tiny_vit import TinyViT

CHANNELS, SIZE = 256, 256


def lite_medsam(text_dim: int = 32) -> SSAM:
    """Its network with random weights; its checkpoint has no text layer (of ``text_dim`` channels) and no labels."""
    encoder = TinyViT()
    grid = (SIZE // encoder.patch_size,) * 2
    transformer = TwoWayTransformer(depth=2, embedding_dim=CHANNELS, num_heads=8, mlp_dim=2048)
    return SSAM(
        encoder,
        PromptEncoder(CHANNELS, grid, (SIZE, SIZE), mask_in_chans=16),
        MaskDecoder(transformer_dim=CHANNELS, transformer=transformer),
        TextAffine(text_dim, CHANNELS),
        text_dim=text_dim,
    )


def is_lite_medsam(network: nn.Module) -> bool:
    """Whether a network has its form: a TinyViT without reduction."""
    encoder = network.image_encoder
    return isinstance(encoder, TinyViT) and encoder.patch_size == TinyViT.cell(1)
