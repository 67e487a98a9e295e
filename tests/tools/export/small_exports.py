# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Small networks of both bundles, made from their configurations with seeded weights."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from tools.export.__main__ import parsed

# Options that make the networks small; with the published overlay there is no refiner, whose graph takes minutes.
VOLUME = {
    "cube_size": 32,
    "network_def#image_encoder#img_size": 32,
    "network_def#image_encoder#patch_size": 8,
    "network_def#image_encoder#embed_dim": 24,
    "network_def#image_encoder#depth": 3,
    "network_def#image_encoder#num_heads": 2,
    "network_def#image_encoder#out_chans": 48,
    "network_def#prompt_encoder#embed_dim": 48,
    "network_def#mask_decoder#embed_dim": 48,
    "network_def#mask_decoder#mlp_dim": 32,
    "network_def#mask_decoder#iou_head_hidden_dim": 16,
}
IMAGE = {
    "image_size": 64,
    "text_dim": 20,
    "network_def#image_encoder#img_size": 32,
    "network_def#image_encoder#embed_dim": 24,
    "network_def#image_encoder#depth": 2,
    "network_def#image_encoder#num_heads": 2,
    "network_def#image_encoder#stem#embed_dim": 24,
    "network_def#image_encoder#global_attn_indexes": [1],
    "network_def#image_encoder#window_size": 3,
    "network_def#image_encoder#out_chans": 32,
    "network_def#prompt_encoder#embed_dim": 32,
    "network_def#prompt_encoder#image_embedding_size": [2, 2],
    "network_def#prompt_encoder#input_image_size": [32, 32],
    "network_def#mask_decoder#transformer_dim": 32,
    "network_def#mask_decoder#transformer#embedding_dim": 32,
    "network_def#mask_decoder#transformer#mlp_dim": 32,
    "network_def#text_affine#embed_dim": 32,
}

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="onnx, onnxruntime or onnxscript is missing: pip install -e .[onnx]",
)


def forget(bundle: str) -> None:
    """As if the bundle's scripts had not been imported."""
    sys.path[:] = [path for path in sys.path if not path.endswith(f"bundles/{bundle}")]
    for name in [n for n in sys.modules if n == "scripts" or n.startswith("scripts.")]:
        del sys.modules[name]


def make(bundle: str, folder: Path, files: list[str], options: dict) -> tuple[torch.nn.Module, list[str]]:
    """A network with seeded weights, saved in the folder, and the words that export it."""
    weights = folder / "weights.pt"
    names = {"label_names": ["gland", "lumen", "stroma"]} if bundle == "ssam_2d" else {}
    torch.manual_seed(0)
    parser = parsed(bundle, files, {**options, **names, "ckpt_path": str(weights)})
    network = parser.get_parsed_content("network_def").eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    torch.save(network.state_dict(), weights)
    words = [bundle, "--output", str(folder / "export"), "--config_file", *files, "--ckpt_path", str(weights)]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    return network, words
