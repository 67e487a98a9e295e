# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A network of LiteMedSAM's form that is small and knows nothing."""

from pathlib import Path

import torch
from monai.bundle import ConfigParser

from bundles.ssam_2d.scripts.networks.ssam import SSAM as Network

SSAM = Path(__file__).resolve().parents[3] / "bundles" / "ssam_2d"
# The same form with few channels, for images of 64 pixels; the decoder is SAM's own.
SMALL = {
    "network_def#image_encoder#widths": [8, 32, 32, 64],
    "network_def#image_encoder#depths": [1, 1, 1, 1],
    "network_def#image_encoder#windows": [3, 5, 3],
    "network_def#prompt_encoder#image_embedding_size": [16, 16],
    "network_def#prompt_encoder#input_image_size": [64, 64],
    "network_def#mask_decoder#transformer#mlp_dim": 64,
    "image_size": 64,
}


def network() -> Network:
    """With random numbers everywhere, the same ones each time."""
    parser = ConfigParser()
    parser.read_config([str(SSAM / "configs" / name) for name in ("inference.json", "lite_medsam.json")])
    parser.update({**SMALL, "network_def#labels": [], "network_def#text_dim": 32})
    parser.update({"network_def#text_affine#text_dim": 32})
    torch.manual_seed(3)
    made = parser.get_parsed_content("network_def").eval()
    for name, tensor in made.image_encoder.state_dict().items():
        if "running_var" in name:
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
        elif tensor.is_floating_point() and tensor.ndim == 1:
            tensor.add_(0.1 * torch.randn(tensor.shape))
    return made
