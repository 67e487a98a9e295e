# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The small network that the bundle's configuration names: encoding a cube, and the decoder's part of a click."""

from __future__ import annotations

import torch

from bundles.fastsam3d.scripts.inference.decoding import CubeMemory, CubePrompt, decode_clicks
from bundles.fastsam3d.scripts.inference.speed.fast_path import choose_precision, prepare_for_inference
from common.precision import computes_bfloat16
from common.weights import weights_key
from tools.benchmark.timing import Contestant
from tools.bundle_network import build_network

AGAINST = "encode_default"
# As inference.json asks for the first prompts.
ROUNDS = 3


def about(quick: bool) -> str:
    """What is measured, in a line."""
    return f"the network of inference.json on a cube of {32 if quick else 128}^3"


def contestants(device: torch.device, quick: bool) -> list[Contestant]:
    """Rows encode_* and click_*: float32 without the fast path, the default precision and bfloat16.

    A processor that does not compute in bfloat16 emulates the last one, many times as slowly: it is left out.
    """
    size = 32 if quick else 128
    network = build_network().to(device).eval()
    volume = torch.randn(1, 1, size, size, size, device=device)
    points = torch.rand(2, 3, device=device) * size
    labels = torch.tensor([1, 0], device=device)
    precisions = {"fp32": "float32", "default": choose_precision("mixed", device)}
    if computes_bfloat16(device):
        precisions["bfloat16"] = "bfloat16"
    encodes, clicks = [], []
    for name, precision in precisions.items():
        fast = network if name == "fp32" else prepare_for_inference(network, precision)
        encodes.append(Contestant(f"encode_{name}", lambda n=fast: n.encode(volume), note=precision))
        embedding = fast.encode(volume)
        mask = decode_clicks(fast, CubeMemory(embedding), [CubePrompt(points[:1], labels[:1])])[0][0]
        prompt = CubePrompt(points, labels, mask=mask, at_once=2)
        clicks.append(
            Contestant(
                f"click_{name}",
                lambda n=fast, e=embedding, p=prompt: decode_clicks(n, CubeMemory(e), [p], ROUNDS),
                note=f"{precision}, two clicks, asked {ROUNDS} times",
            )
        )
    check = Contestant("weights_key", lambda: weights_key(network), note="whether the weights changed, once a request")
    return [*encodes, *clicks, check]
