# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A SAM small enough for tests, with everything that a large one has: windows, global blocks, relative positions."""

from collections.abc import Sequence

import torch
from torch import nn

from bundles.ssam_2d.scripts.networks.image_encoder import ImageEncoder
from bundles.ssam_2d.scripts.networks.sam import MaskDecoder, PromptEncoder, TwoWayTransformer
from bundles.ssam_2d.scripts.networks.ssam import SSAM
from bundles.ssam_2d.scripts.networks.text import TextAffine

PATCH, TEXT = 4, 12


def small_sam(
    size: int = 32,
    labels: Sequence[str] = ("liver", "spleen", "polyp"),
    seed: int = 0,
    width: int = 16,
    window: int = 3,
) -> SSAM:
    """In evaluation mode, with random weights everywhere, positions and label features included."""
    torch.manual_seed(seed)
    grid = (size // PATCH,) * 2
    network = SSAM(
        ImageEncoder(size, PATCH, width, 2, 2, 16, window, (1,)),
        PromptEncoder(16, grid, (size, size), 4),
        MaskDecoder(
            transformer_dim=16,
            transformer=TwoWayTransformer(2, 16, 2, 32),
            num_multimask_outputs=3,
            iou_head_depth=2,
            iou_head_hidden_dim=16,
        ),
        TextAffine(TEXT, 16),
        labels,
        TEXT,
    )
    for name, parameter in network.named_parameters():
        if "pos" in name:
            nn.init.normal_(parameter)
    # Last, so that the number of labels changes nothing else.
    nn.init.normal_(network.label_features)
    return network.eval()


def sam_state(network: SSAM) -> dict[str, torch.Tensor]:
    """What a published checkpoint of this SAM would hold."""
    parts = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
    return {k: v.clone() for k, v in network.state_dict().items() if k.startswith(parts)}
