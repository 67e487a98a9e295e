# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A small U-Net after the mask decoder, which spreads the prompts over the object up to the edges of the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn
from torch.nn import functional as F

from .drawing import DRAWN_LOGIT
from .geodesic import geodesic_distance

# Distances, in standard deviations of the image, over which nearness falls to a third.
SCALES = (0.5, 2.0)
# Cells a side on which distances are measured at most.
FINEST = 32


class Context(nn.Module):
    """A few linear mixtures of the embedding's channels, on the grid of the logits; the same for all clicks."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv3d(channels, out_channels, kernel_size=1)

    def forward(self, features: Tensor, size: Sequence[int]) -> Tensor:
        """(B, C, d, h, w) -> (B, C', *size)."""
        return F.interpolate(self.mix(features), size=tuple(size), mode="trilinear")


class Refiner(nn.Module):
    """Adds to the decoder's logits what a U-Net makes of them, of the prompts drawn as a mask and of the image.

    In SAM's decoder a cell learns of the prompts through a few tokens alone and never of its neighbours; in the short
    training that made the default weights, it alone did not learn to spread a click over an organ.

    It also sees the geodesic distance of each cell from the clicks, which convolutions cannot compute.

    Args:
        detail_channels: of the encoder's finest feature map, on the grid of the logits.
        channels: of the U-Net's levels, the first at half the grid of the logits; multiples of 4.
        width: channels on the grid of the logits itself, a multiple of 4.
        embed_dim: channels of the image's embedding, of which the U-Net is shown ``context`` mixtures; None for none.
        context: see ``embed_dim``.
    """

    def __init__(
        self,
        detail_channels: int = 16,
        channels: Sequence[int] = (32, 64, 96, 128),
        width: int = 8,
        embed_dim: int | None = None,
        context: int = 8,
    ) -> None:
        super().__init__()
        self.context = None if embed_dim is None else Context(embed_dim, context)
        # Normalised over groups of channels: over a batch objects would change each other's masks.
        norm = ("group", {"num_groups": 4})
        # The image, the logits, the prompts, and the nearness of foreground and background at two scales.
        inputs = detail_channels + 3 + 2 * len(SCALES) + (0 if self.context is None else context)
        self.unet = UNet(3, inputs, width, channels, (2,) * (len(channels) - 1), num_res_units=1, norm=norm)
        self.edges = nn.Sequential(
            nn.Conv3d(inputs + width, width, kernel_size=3, padding=1),
            nn.GroupNorm(4, width),
            nn.LeakyReLU(),
            nn.Conv3d(width, 1, kernel_size=1),
        )

    def see(self, image: Tensor, finest: Tensor, features: Tensor) -> Tensor:
        """The maps of the image that every click needs, on the grid of the logits.

        Args:
            image: (B, 1, ...) the cube.
            finest: (B, c, D, H, W) the encoder's finest map.
            features: (B, C, d, h, w) the embedding.

        Returns:
            (B, 1 + c + context, D, H, W), the image in front.
        """
        return torch.cat([x.to(finest.dtype) for x in seen_maps(image, finest, features, self.context)], dim=1)

    def near(self, seeds: Tensor, detail: Tensor) -> Tensor:
        """The maps that depend on the clicks and not on the last mask: computed once for all rounds of a click.

        Args:
            seeds: (N, 1, D, H, W) points and boxes drawn alone: positive and negative where they are sure.
            detail: from ``see``, of one image or of N.

        Returns:
            (N, 2 * scales, D, H, W), see :func:`nearness`.
        """
        return nearness(detail[:, :1].expand(len(seeds), -1, -1, -1, -1), seeds)

    def forward(self, logits: Tensor, prompts: Tensor, near: Tensor, detail: Tensor) -> Tensor:
        """Better logits.

        Args:
            logits: (N, 1, D, H, W) of the mask decoder.
            prompts: (N, 1, D, H, W) the mask prompt with points and boxes drawn into it.
            near: from ``near``, of N objects.
            detail: from ``see``, of one image or of N.

        Returns:
            (N, 1, D, H, W).
        """
        detail = detail.expand(len(logits), -1, -1, -1, -1)
        drawn = torch.cat([logits, prompts.to(logits.dtype)], dim=1) / DRAWN_LOGIT
        x = torch.cat([detail.to(logits.dtype), drawn, near.to(logits.dtype)], dim=1)
        # Convolutions of few channels are several times as fast with the channels innermost.
        x = x.to(self.edges[0].weight.dtype).contiguous(memory_format=torch.channels_last_3d)
        return logits + self.edges(torch.cat([x, self.unet(x)], dim=1)).to(logits.dtype)


def seen_maps(image: Tensor, finest: Tensor, features: Tensor, context: Context | None) -> list[Tensor]:
    """The image, the encoder's finest map and what ``context`` makes of the embedding, all on that map's grid."""
    size = finest.shape[2:]
    seen = [F.interpolate(image, size=size, mode="area"), finest]
    return seen if context is None else [*seen, context(features, size)]


@torch.no_grad()
def nearness(image: Tensor, seeds: Tensor) -> Tensor:
    """(N, 2 * scales, D, H, W): 1 at foreground and background seeds, falling to 0 with the geodesic distance.

    Args:
        image: (N, 1, D, H, W).
        seeds: (N, 1, D, H, W), positive and negative where there are seeds.
    """
    factor = max(1, max(seeds.shape[2:]) // FINEST)
    pooled = F.avg_pool3d(image.float(), factor)
    both = torch.cat([F.max_pool3d(sign * seeds.float(), factor) > 0 for sign in (1, -1)], dim=1)
    distance = geodesic_distance(pooled, both)
    near = torch.cat([torch.exp(-distance / scale) for scale in SCALES], dim=1)
    return F.interpolate(near, size=seeds.shape[2:], mode="trilinear") if factor > 1 else near
