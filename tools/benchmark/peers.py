# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What one prediction costs in three interactive networks for volumes: cost alone, since two have random weights.

nnInteractive's is the ResEnc-L U-Net of ``dynamic-network-architectures`` with 8 input channels, which sees 192^3
voxels anew at every prompt (``pip install --no-deps dynamic-network-architectures``). SAM-Med3D encodes 128^3 voxels
once, and decodes at every prompt; so does this project's, whose rows are whole: from an image in memory to the mask on
its grid.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sam_bundles import Session
from tools.benchmark import click, published_forms
from tools.benchmark.encoder3d import TINY
from tools.benchmark.timing import Contestant

AGAINST = "fastsam3d, first click"
FEATURES, BLOCKS = (32, 64, 128, 256, 320, 320), (1, 3, 4, 6, 6, 6)


def about(quick: bool) -> str:
    """What is measured, in a line."""
    return "tiny cubes" if quick else "one prediction of nnInteractive's network, of SAM-Med3D's and of fastsam3d"


def contestants(device: torch.device, quick: bool) -> list[Contestant]:
    """First and further prompts of each."""
    side, cube = (64, 32) if quick else (192, 128)
    first, further = _ours(cube)
    table = click.Table(*((24, 2) if quick else (384, 8)), device)
    points, labels = table.clicks(1, 1)
    encoder = published_forms.teacher(**(TINY | {"window_size": 3} if quick else {})).to(device).eval()
    volume = torch.randn(1, 1, *(cube,) * 3, device=device)
    decode = lambda: table.published(points, labels, None)[1]  # noqa: E731
    rows = [
        Contestant(AGAINST, first, note="encoder, decoder, mask on the image's grid; shipped weights"),
        Contestant("fastsam3d, further click", further, note="one click more, and undo"),
        Contestant(
            "SAM-Med3D, first click",
            lambda: (encoder(volume), decode()),
            note=f"{cube}^3, as published, random weights",
        ),
        Contestant("SAM-Med3D, further click", decode, note="decoder alone"),
    ]
    try:
        network = _res_enc(device)
    except ImportError as error:
        return [*rows, Contestant("nnInteractive, every prompt", _raise(error))]
    patch = torch.randn(1, 8, *(side,) * 3, device=device)
    count = sum(p.numel() for p in network.parameters()) / 1e6
    note = f"{side}^3, {count:.0f} M parameters, random weights, before refining and zooming out"
    flops = _flops(side)
    return [*rows, Contestant("nnInteractive, every prompt", lambda: network(patch), flops, torch.float32, note)]


def _ours(side: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """A first click on an image that was never seen, and a further one."""
    rng = np.random.default_rng(0)
    image = rng.integers(-60, 60, (side,) * 3).astype(np.float32)
    image[tuple(slice(side // 3, 2 * side // 3) for _ in range(3))] += 200
    middle = (side // 2,) * 3
    session, other = Session(), Session()
    other.set_image(image, {"spacing": (1.5,) * 3, "orientation": "LPS"})
    other.add_point_interaction(middle)

    def first() -> None:
        session.set_image(image, {"spacing": (1.5,) * 3, "orientation": "LPS"})
        session.add_point_interaction(middle)

    def further() -> None:
        other.add_point_interaction((side // 3, *middle[1:]), False)
        other.undo()

    return first, further


def _res_enc(device: torch.device | str) -> nn.Module:
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    return (
        ResidualEncoderUNet(
            8,
            len(FEATURES),
            FEATURES,
            nn.Conv3d,
            3,
            [1, 2, 2, 2, 2, 2],
            BLOCKS,
            2,
            [1] * 5,
            conv_bias=True,
            norm_op=nn.InstanceNorm3d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
        )
        .to(device)
        .eval()
    )


def _flops(side: int) -> float:
    """Of the U-Net, counted without computing."""
    with FlopCounterMode(display=False) as counter:
        _res_enc("meta")(torch.empty(1, 8, *(side,) * 3, device="meta"))
    return float(counter.get_total_flops())


def _raise(error: ImportError) -> Callable[[], None]:
    def run() -> None:
        raise ImportError(f"{error}: pip install --no-deps dynamic-network-architectures")

    return run
