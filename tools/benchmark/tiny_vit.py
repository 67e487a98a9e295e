# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""LiteMedSAM's image encoder: as its checkpoint is, and in the forms that inference takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bundles.ssam_2d.scripts.networks.folded import FoldedTinyViT
from bundles.ssam_2d.scripts.networks.tiny_vit import TinyViT
from tools.benchmark.timing import Contestant

AGAINST = "plain"
TINY = {"widths": (8, 32, 32, 64), "depths": (1, 1, 1, 1), "windows": (3, 5, 3), "out_chans": 16}


def about(quick: bool) -> str:
    """What is measured, in a line."""
    return "a tiny TinyViT" if quick else "one image of 256 px through LiteMedSAM's TinyViT, random weights"


def contestants(device: torch.device, quick: bool) -> list[Contestant]:
    """The checkpoint's plain form, the same under autocast, and folded in both precisions."""
    torch.manual_seed(0)
    encoder = TinyViT(**(TINY if quick else {})).eval().requires_grad_(False).to(device)
    image = torch.rand(1, 3, *(2 * [32 if quick else 256]), device=device)
    # The counter knows the products of the plain attention alone, and not of the fused one.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        expected = encoder(image)
    flops = float(counter.get_total_flops())
    whole, half = FoldedTinyViT(encoder, torch.float32), FoldedTinyViT(encoder)

    def autocast() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return encoder(image)

    runs: dict[str, tuple[Any, torch.dtype, str]] = {
        "plain": (lambda: encoder(image), torch.float32, "float32, norms and biases computed each time"),
        "autocast": (autocast, torch.bfloat16, "the same, layers in bfloat16"),
        "folded_fp32": (lambda: whole(image), torch.float32, "norms folded, biases ready, GELUs with their layers"),
        "folded": (lambda: half(image), torch.bfloat16, "the same in bfloat16: what inference takes where it is fast"),
    }
    return [
        Contestant(name, run, flops, dtype, note, {"error": float((run() - expected).norm() / expected.norm())})
        for name, (run, dtype, note) in runs.items()
    ]
