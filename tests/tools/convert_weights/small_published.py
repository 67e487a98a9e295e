# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Sizes and seeded weights of small published networks, and the tolerance that they are held to."""

from typing import Any

import torch

from bundles.fastsam3d.scripts.networks.fastsam3d import FastSAM3D
from bundles.fastsam3d.scripts.networks.mask_decoder import MaskDecoder3D
from bundles.fastsam3d.scripts.networks.prompt_encoder import PromptEncoder3D
from bundles.fastsam3d.scripts.networks.published import SwappedFourierCode

SIZES_3D = {
    "img_size": 16,
    "patch_size": 4,
    "embed_dim": 12,
    "depth": 4,
    "num_heads": 2,
    "mlp_ratio": 2,
    "out_chans": 48,
}
SAM = {
    "image_encoder": {
        "img_size": 64,
        "patch_size": 8,
        "embed_dim": 16,
        "depth": 4,
        "num_heads": 2,
        "mlp_ratio": 2,
        "out_chans": 16,
        "window_size": 3,
        "global_attn_indexes": [1, 3],
    },
    "prompt_encoder": {
        "embed_dim": 16,
        "image_embedding_size": [8, 8],
        "input_image_size": [64, 64],
        "mask_in_chans": 8,
    },
    "mask_decoder": {
        "transformer_dim": 16,
        "num_multimask_outputs": 3,
        "iou_head_depth": 3,
        "iou_head_hidden_dim": 16,
    },
    "mask_decoder#transformer": {"depth": 2, "embedding_dim": 16, "num_heads": 8, "mlp_dim": 32},
}


def seeded(module: torch.nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict of random numbers; also where the module starts from zeros or lies on the meta device."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(value.shape, generator=generator) * 0.2 if value.is_floating_point() else torch.tensor(3)
        for key, value in module.state_dict().items()
    }


def close(ours: torch.Tensor, expected: torch.Tensor) -> None:
    """Within the tolerance of the reference files."""
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= 1e-4 * expected.abs().max()


def gives_the_reference_outputs(network: FastSAM3D, encoder: Any, decoder: Any) -> None:
    """A whole network with the references' own inputs: embedding, and masks and IoU of one click."""
    with torch.no_grad():
        embedding = network.encode(encoder.inputs["image"])
        close(embedding.features, encoder.outputs["embedding"])
        given = embedding._replace(features=decoder.inputs["image_embedding"])
        logits, iou = network.decode(given, decoder.inputs["points"][:, :1], decoder.inputs["labels"][:, :1])
    close(logits, decoder.outputs["click0/masks"])
    close(iou, decoder.outputs["click0/iou"])


def joined(encoder: torch.nn.Module) -> FastSAM3D:
    width = 48
    decoder = MaskDecoder3D(width, heads=8, mlp_dim=32, iou_head_hidden_dim=16)
    return FastSAM3D(encoder, PromptEncoder3D(width, 8, code=SwappedFourierCode(width)), decoder)
