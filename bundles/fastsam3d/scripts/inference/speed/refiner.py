# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The refiner for inference: what depends on the image alone, or on the clicks alone, is convolved once."""

from __future__ import annotations

import copy
from typing import NamedTuple

import monai
import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from ...networks.drawing import DRAWN_LOGIT
from ...networks.refiner import Refiner, nearness, seen_maps

ANOTHER_UNET = (
    f"MONAI {monai.__version__} builds its U-Net in another way than the fast refiner knows: expected the version that "
    "the bundle's metadata.json names"
)


class Sums(NamedTuple):
    """What some of the input's channels add to the first convolutions.

    Attributes:
        down: (N, C, D/2, H/2, W/2) to the two convolutions of the U-Net's first level.
        edges: (N, width, D, H, W) to the convolution after the U-Net.
    """

    down: Tensor
    edges: Tensor


class SeenImage(NamedTuple):
    """What the refiner needs of an image.

    Attributes:
        image: (B, 1, D, H, W) on the grid of the logits.
        sums: of the image and of the encoder's finest map.
    """

    image: Tensor
    sums: Sums


class FastRefiner(nn.Module):
    """Computes what a :class:`...networks.refiner.Refiner` computes.

    Of the 31 channels that its first convolutions read, 25 depend on the image alone and 4 on the clicks alone; only 2
    change from one round of a click to the next. A convolution is a sum over its input channels: the shares of the
    others are added up beforehand.

    The first and the last convolutions keep the refiner's own precision: rounding what they read, the last mask above
    all, is what changes masks. All between them, most of the work, may be computed in another one.

    Args:
        refiner: of inference; its inner part is changed to ``inner``.
        inner: dtype of all but the first and the last convolutions.

    Raises:
        RuntimeError: this MONAI builds its U-Net in another way.
    """

    def __init__(self, refiner: Refiner, inner: torch.dtype) -> None:
        super().__init__()
        self.context = refiner.context
        first, self.activation, rest = unet_parts(refiner.unet)
        self.inner, self.rest = inner, rest.to(inner)
        edges, *after = refiner.edges
        self.after = nn.Sequential(*after)
        image = first.in_channels - 2 - 4
        inputs = first.in_channels
        # In the order of Refiner.forward: image and map, logits and prompts, nearness; then the U-Net's answer.
        self.image_down, self.drawn_down, self.near_down = (
            _share(first, channels) for channels in (range(image), range(image, image + 2), range(image + 2, inputs))
        )
        self.image_edges, self.near_edges, self.changing_edges = (
            _share(edges, channels)
            for channels in (
                range(image),
                range(image + 2, inputs),
                [*range(image, image + 2), *range(inputs, edges.in_channels)],
            )
        )
        # Each convolution's bias is added once, with the image.
        for share in (self.drawn_down, self.near_down, self.near_edges, self.changing_edges):
            share.bias = None
        # Nearness is smooth and between 0 and 1; convolving so few channels in float32 is slow.
        self.near_down, self.near_edges = self.near_down.to(inner), self.near_edges.to(inner)

    def see(self, image: Tensor, finest: Tensor, features: Tensor) -> SeenImage:
        """See ``Refiner.see``."""
        seen = seen_maps(image, finest, features, self.context)
        detail = self._side_by_side(*seen)
        return SeenImage(seen[0], Sums(self.image_down(detail), self.image_edges(detail)))

    def near(self, seeds: Tensor, detail: SeenImage) -> Sums:
        """What clicks and image together add, for N objects; see ``Refiner.near``."""
        near = nearness(detail.image.expand(len(seeds), -1, -1, -1, -1), seeds).to(self.inner)
        near = near.contiguous(memory_format=torch.channels_last_3d)
        down, edges = detail.sums
        return Sums(down + self.near_down(near).to(down.dtype), edges + self.near_edges(near).to(edges.dtype))

    def forward(self, logits: Tensor, prompts: Tensor, near: Sums, detail: SeenImage) -> Tensor:
        """See ``Refiner.forward``."""
        drawn = self._side_by_side(logits, prompts) / DRAWN_LOGIT
        residual, first = (near.down + self.drawn_down(drawn)).chunk(2, dim=1)
        x = self.rest((self.activation(first) + residual).to(self.inner)).to(drawn.dtype)
        edges = near.edges + self.changing_edges(self._side_by_side(drawn, x))
        return logits + self.after(edges).to(logits.dtype)

    def _side_by_side(self, *maps: Tensor) -> Tensor:
        """The channels of some maps one after the other, innermost in memory: convolutions are then faster.

        Joined there, too: joined in any other order all of them would have to be turned around.
        """
        dtype = self.image_down.weight.dtype
        return torch.cat([x.to(dtype).movedim(1, -1) for x in maps], dim=-1).movedim(-1, 1)


def unet_parts(unet: UNet) -> tuple[nn.Conv3d, nn.Module, nn.Sequential]:
    """The first level of MONAI's U-Net taken apart, and all after it.

    Returns:
        one convolution for the first unit's residual and main path, their outputs one after the other; what follows
        on the main path; and all that follows the unit.

    Raises:
        RuntimeError: these parts do not compute what the U-Net computes, as may be with another version of MONAI.
    """
    try:
        down, *after = unet.model
        convolution, activation = _joined(down.residual, down.conv.unit0.conv), down.conv.unit0.adn
        rest = copy.deepcopy(nn.Sequential(*after))
        same = _computes_the_same(unet, convolution, activation, rest)
    except (AttributeError, TypeError, RuntimeError) as problem:
        raise RuntimeError(f"{ANOTHER_UNET} ({problem})") from problem
    if not same:
        raise RuntimeError(ANOTHER_UNET)
    return convolution, activation, rest


@torch.no_grad()
def _computes_the_same(unet: UNet, convolution: nn.Conv3d, activation: nn.Module, rest: nn.Module) -> bool:
    """Whether the parts answer what the U-Net answers, to one small made-up input."""
    made_up = torch.randn(1, convolution.in_channels, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    made_up = made_up.to(convolution.weight)
    residual, main = convolution(made_up).chunk(2, dim=1)
    expected, got = unet(made_up), rest(activation(main) + residual)
    tolerance = 1e-3 if made_up.dtype == torch.float32 else 0.1
    return bool((got - expected).abs().max() <= tolerance * expected.abs().max())


def _joined(*convolutions: nn.Conv3d) -> nn.Conv3d:
    """Convolutions of one input as a single one, their outputs one after the other."""
    first = convolutions[0]
    joined = nn.Conv3d(first.in_channels, 1, first.kernel_size, first.stride, first.padding)
    joined.weight, joined.bias = (
        nn.Parameter(torch.cat([getattr(c, name).detach() for c in convolutions]), False) for name in ("weight", "bias")
    )
    joined.out_channels = len(joined.weight)
    return joined


def _share(convolution: nn.Conv3d, channels: range | list[int]) -> nn.Conv3d:
    """The convolution of some of its input's channels."""
    share = nn.Conv3d(len(channels), 1, convolution.kernel_size, convolution.stride, convolution.padding)
    share.weight = nn.Parameter(convolution.weight.detach()[:, list(channels)].contiguous(), False)
    share.bias, share.out_channels = nn.Parameter(convolution.bias.detach(), False), convolution.out_channels
    return share
