# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The smallest student and teacher that the training configurations can be run with."""

from pathlib import Path
from typing import Any

import torch

CONFIGS = Path(__file__).parents[3] / "bundles" / "fastsam3d" / "configs"
# The files of each step, one on top of the other.
EVALUATE = ("inference.json", "evaluate.json")
TRAIN_TEACHER = ("train.json", "teacher.json", "train_teacher.json")
DISTILL = ("train.json", "teacher.json", "distill.json")
# Of the published image encoders.
PUBLISHED_SIZES = {"patch_size": 4, "embed_dim": 12, "depth": 3, "num_heads": 2, "mlp_ratio": 2, "out_chans": 6}
DECODER = {
    "prompt_encoder": {
        "_target_": "scripts.networks.prompt_encoder.PromptEncoder3D",
        "embed_dim": 12,
        "mask_in_chans": 4,
        "boxes": True,
    },
    "mask_decoder": {
        "_target_": "scripts.networks.mask_decoder.MaskDecoder3D",
        "embed_dim": 12,
        "heads": 2,
        "mlp_dim": 16,
        "iou_head_hidden_dim": 8,
    },
    "draw_prompts": True,
}


def small_student(depth: int = 2) -> dict[str, Any]:
    """A network_def with the paper's student, for cubes of 16 voxels."""
    encoder = {
        "_target_": "scripts.networks.student.StudentEncoder3D",
        "image_size": 16,
        "patch_size": 4,
        "embed_dim": 12,
        "depth": depth,
        "heads": 3,
        "ffn_blocks": 1,
        "mlp_ratio": 1.0,
        "out_channels": 12,
    }
    return {"_target_": "scripts.networks.fastsam3d.FastSAM3D", "image_encoder": encoder, **DECODER}


def small_teacher(depth: int = 4, width: int = 12) -> dict[str, Any]:
    """A network_def with the teacher."""
    encoder = {
        "_target_": "scripts.networks.image_encoder.ImageEncoder3D",
        "img_size": 16,
        "patch_size": 4,
        "embed_dim": width,
        "depth": depth,
        "num_heads": 2,
        "mlp_ratio": 1.0,
        "out_chans": 12,
        "global_attn_indexes": [1, 3],
        "window_size": 2,
    }
    return {"_target_": "scripts.networks.fastsam3d.FastSAM3D", "image_encoder": encoder, **DECODER}


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """The network in a run's state."""
    return torch.load(folder / "state.pt", weights_only=True)["parts"]["network"]
