# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The layers that every network of this bundle shares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of a (B, C, ...) tensor, with biased variance."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape, its channels innermost in memory."""
        # One pass of a fused kernel instead of nine, and statistics in fp32 whatever the dtype.
        return F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, self.eps).movedim(-1, 1)


class MLP(nn.Module):
    """Two linear layers with an activation between them, as in every block of a transformer."""

    def __init__(self, width: int, hidden: int, activation: type[nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return self.lin2(self.act(self.lin1(x)))


def resize_grid(table: Tensor, grid: Sequence[int]) -> Tensor:
    """A positional embedding (1, d, h, w, C) for another grid, trilinearly interpolated; unchanged if it fits."""
    if tuple(table.shape[1:4]) == tuple(grid):
        return table
    resized = F.interpolate(table.movedim(-1, 1), size=tuple(grid), mode="trilinear", align_corners=False)
    return resized.movedim(1, -1)


class PatchEmbed3D(nn.Module):
    """One convolution turns each patch of voxels into a token."""

    def __init__(self, patch_size: int, embed_dim: int, in_channels: int = 1) -> None:
        super().__init__()
        self.proj = nn.Conv3d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, D, H, W) -> tokens (B, d, h, w, embed_dim)."""
        return self.proj(image).movedim(1, -1)


def neck3d(embed_dim: int, out_channels: int) -> nn.Sequential:
    """SAM's neck in 3D: (B, embed_dim, d, h, w) -> (B, out_channels, d, h, w)."""
    return nn.Sequential(
        nn.Conv3d(embed_dim, out_channels, kernel_size=1, bias=False),
        ChannelNorm(out_channels),
        nn.Conv3d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        ChannelNorm(out_channels),
    )


class Head(nn.Module):
    """``depth`` linear layers with ReLU between them."""

    def __init__(self, width: int, hidden: int, out: int, depth: int = 3) -> None:
        super().__init__()
        sizes = [width] + [hidden] * (depth - 1) + [out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., out)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)
