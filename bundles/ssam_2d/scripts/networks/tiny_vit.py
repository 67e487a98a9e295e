# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""TinyViT (arXiv 2207.10666) as LiteMedSAM and MobileSAM have it in the place of SAM's image encoder.

Convolutions first, then attention in windows, a depthwise convolution and an MLP. Names are those of their checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .sam import LayerNorm2d

# Channels of an attention head, and the strides between the stages, of every published one.
HEAD, STRIDES = 32, (2, 2, 1)


class TinyViT(nn.Module):
    """The defaults are TinyViT-5M's in LiteMedSAM; ``reduction`` 4 makes it MobileSAM's, for images of 1024 px.

    Args:
        widths: channels of each stage; a multiple of 32, the channels of an attention head, but for the first.
        depths: blocks of each stage. The first stage has convolutions alone.
        windows: cells a side of the attention's windows, of each stage after the first.
        reduction: by the patch embedding: 1 (two 1x1 convolutions) or 4 (two 3x3 ones of stride 2).
        strides: between the stages.
        out_chans: channels of the embedding.

    Raises:
        ValueError: sizes that do not fit each other.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 160, 320),
        depths: Sequence[int] = (2, 2, 6, 2),
        windows: Sequence[int] = (7, 14, 7),
        reduction: int = 1,
        strides: Sequence[int] = STRIDES,
        out_chans: int = 256,
    ) -> None:
        super().__init__()
        if not len(widths) == len(depths) == len(windows) + 1 == len(strides) + 1:
            raise ValueError(f"widths {widths}, depths {depths}, windows {windows}, strides {strides}: one a stage")
        if reduction not in (1, 4) or any(width % HEAD for width in widths[1:]):
            raise ValueError(f"reduction {reduction}, widths {widths}: expected 1 or 4, and multiples of {HEAD}")
        self.patch_size = self.cell(reduction, strides)
        self.patch_embed = PatchEmbedding(widths[0], reduction)
        kinds = [MBConv, *(lambda width, w=w: Block(width, width // HEAD, w) for w in windows)]
        self.layers = nn.ModuleList(
            Stage([kind(width) for _ in range(depth)]) for kind, width, depth in zip(kinds, widths, depths, strict=True)
        )
        for stage, (inputs, outputs), stride in zip(self.layers, pairwise(widths), strides, strict=False):
            stage.downsample = Downsample(inputs, outputs, stride)
        self.neck = nn.Sequential(
            nn.Conv2d(widths[-1], out_chans, 1, bias=False),
            LayerNorm2d(out_chans),
            nn.Conv2d(out_chans, out_chans, 3, padding=1, bias=False),
            LayerNorm2d(out_chans),
        )

    @staticmethod
    def cell(reduction: int, strides: Sequence[int] = STRIDES) -> int:
        """Pixels a side of a cell of the embedding."""
        return reduction * math.prod(strides)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, out_chans, H / patch_size, W / patch_size).

        Raises:
            ValueError: an image whose sides are no multiples of ``patch_size``.
        """
        if any(side < self.patch_size or side % self.patch_size for side in image.shape[2:]):
            raise ValueError(f"an image of {tuple(image.shape[2:])} pixels; expected multiples of {self.patch_size}")
        return self.finish(self.begin(image, len(self.layers)), len(self.layers))

    def begin(self, image: Tensor, stages: int) -> Tensor:
        """What the first stages make of an image: (B, 3, H, W) -> (B, C, h, w)."""
        # Channels last: attention reads the cells where the convolutions left them.
        x = self.patch_embed(image.contiguous(memory_format=torch.channels_last))
        for stage in self.layers[:stages]:
            x = stage(x)
        return x

    def finish(self, x: Tensor, stages: int) -> Tensor:
        """What the stages after those first ones make of it: (B, C, h, w) -> the embedding."""
        for stage in self.layers[stages:]:
            x = stage(x)
        return self.neck(x)


class FrozenNorm(nn.BatchNorm2d):
    """BatchNorm by its stored statistics, in training too: tuning sees few images, and a batch of one."""

    # What tells common.svd_affine that training never moves them.
    frozen_statistics = True

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class ConvNorm(nn.Sequential):
    """A convolution that keeps the size (but for its stride), and its norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = FrozenNorm(outputs)


class PatchEmbedding(nn.Module):
    """Two convolutions with a GELU between them, which see single pixels or reduce the image four times."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        kernel, stride = (1, 1) if reduction == 1 else (3, 2)
        self.seq = nn.Sequential(
            ConvNorm(3, width // 2, kernel, stride), nn.GELU(), ConvNorm(width // 2, width, kernel, stride)
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, width, h, w)."""
        return self.seq(image)


class MBConv(nn.Module):
    """An inverted bottleneck: to four times the channels, a 3x3 convolution of each, back, and added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.act1 = ConvNorm(width, 4 * width), nn.GELU()
        self.conv2, self.act2 = ConvNorm(4 * width, 4 * width, 3, groups=4 * width), nn.GELU()
        self.conv3 = ConvNorm(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        return F.gelu(x + self.conv3(self.act2(self.conv2(self.act1(self.conv1(x))))))


class Downsample(nn.Module):
    """Between two stages: more channels, and with a stride of 2 a quarter of the cells."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.act1 = ConvNorm(inputs, outputs), nn.GELU()
        self.conv2, self.act2 = ConvNorm(outputs, outputs, 3, stride, groups=outputs), nn.GELU()
        self.conv3 = ConvNorm(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h / stride, w / stride)."""
        return self.conv3(self.act2(self.conv2(self.act1(self.conv1(x)))))


class Stage(nn.Module):
    """Blocks, and after them a :class:`Downsample` where another stage follows."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h', w')."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class Block(nn.Module):
    """Attention in windows added to the cells, a 3x3 convolution of each channel, an MLP added."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.attn = WindowAttention(width, heads, window)
        self.local_conv = ConvNorm(width, width, 3, groups=width)
        self.mlp = MLP(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w), channels last -> the same."""
        x = x + self.attn(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.local_conv(x)
        return x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class WindowAttention(nn.Module):
    """Attention among the cells of a window, with a learned bias for each distance along rows and columns.

    Windows that the grid cuts off are filled up with zeros before the norm, and attend to them, as in the published
    code. Norm and first layer are not computed for these: every one becomes what the layer makes of the norm's bias.

    Args:
        width: channels.
        heads: of the attention.
        window: cells a side.
    """

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        down, across = ((v.flatten()[:, None] - v.flatten()).abs() for v in (rows, columns))
        self.register_buffer("distance", down * window + across, persistent=False)

    def biases(self) -> Tensor:
        """(heads, cells, cells) of a window, added to the scores."""
        return self.attention_biases[:, self.distance]

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h, w, C)."""
        batch, height, width, channels = x.shape
        below, right = -height % self.window, -width % self.window
        qkv = self.qkv(self.norm(x))
        if below or right:
            filling = self.qkv(self.norm.bias[None])[0].to(qkv.dtype)
            qkv = torch.cat([qkv, filling.expand(batch, height, right, -1)], 2) if right else qkv
            qkv = torch.cat([qkv, filling.expand(batch, below, width + right, -1)], 1) if below else qkv
        down, across = qkv.shape[1] // self.window, qkv.shape[2] // self.window
        # Images, windows down, rows, windows across, columns, heads, query-key-value, channels of a head.
        parts = qkv.reshape(batch, down, self.window, across, self.window, self.heads, 3, -1)
        parts = parts.permute(6, 0, 1, 3, 5, 2, 4, 7).flatten(1, 3).flatten(3, 4)
        answer = F.scaled_dot_product_attention(*parts, attn_mask=self.biases()[None].to(qkv.dtype))
        answer = answer.reshape(batch, down, across, self.heads, self.window, self.window, -1)
        answer = answer.permute(0, 1, 4, 2, 5, 3, 6).reshape(*qkv.shape[:3], channels)
        return self.proj(answer[:, :height, :width])


class MLP(nn.Module):
    """Norm, and two layers with a GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1, self.act = nn.Linear(width, 4 * width), nn.GELU()
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.fc2(self.act(self.fc1(self.norm(x))))
