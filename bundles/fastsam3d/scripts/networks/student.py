# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""FastSAM3D's student in the paper's form: few blocks, the first without attention, the others with sparse attention.

FastSAM3D, section 2.1 and figure 1; the attention is section 2.2's. The form of the published weights is in
:mod:`.published`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.sparse_attention import PAPER_PATTERNS, morton_order, sparse_attention
from .embedding import Embedding
from .layers import MLP, ChannelNorm, PatchEmbed3D, neck3d, resize_grid


class SparseAttention(nn.Module):
    """Multi-head self-attention in which each group of heads sees one pattern of dilated segments."""

    def __init__(self, width: int, heads: int, patterns: Sequence[Sequence[int | None]]) -> None:
        super().__init__()
        if width % heads or heads % len(patterns):
            raise ValueError(f"width {width}, {heads} heads, {len(patterns)} patterns: each must divide the one before")
        self.heads = heads
        self.patterns = tuple((segment, dilation) for segment, dilation in patterns)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, width) -> the same shape."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(sparse_attention(q, k, v, self.patterns).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """x + attention(norm1(x)), then x + mlp(norm2(x)); the first step only where there is attention."""

    def __init__(self, width: int, mlp_ratio: float, attention: nn.Module | None) -> None:
        super().__init__()
        if attention is not None:
            self.norm1 = nn.LayerNorm(width, eps=1e-6)
            self.attn = attention
        self.has_attention = attention is not None
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, int(width * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, width) -> the same shape."""
        if self.has_attention:
            x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ConvStem3D(nn.Module):
    """Patch embedding by convolutions of stride 2, whose outputs keep the edges that a single large patch would blur.

    Args:
        channels: of each convolution but the last; their number + 1 is log2 of the patch.
        embed_dim: channels of a token.
    """

    def __init__(self, channels: Sequence[int] = (16, 32), embed_dim: int = 192) -> None:
        super().__init__()
        sizes = [1, *channels, embed_dim]
        self.convs = nn.ModuleList(
            nn.Conv3d(a, b, kernel_size=3, stride=2, padding=1) for a, b in zip(sizes[:-1], sizes[1:], strict=True)
        )
        self.norms = nn.ModuleList(ChannelNorm(c) for c in channels)
        self.patch_size = 2 ** (len(channels) + 1)

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B, 1, D, H, W) -> tokens (B, d, h, w, C), and the finer feature maps, coarse to fine."""
        x, finer = image, []
        for conv, norm in zip(self.convs, self.norms, strict=False):
            x = F.gelu(norm(conv(x)))
            finer.insert(0, x)
        return self.convs[-1](x).movedim(1, -1), tuple(finer)


class StudentEncoder3D(nn.Module):
    """The small image encoder.

    Args:
        image_size: voxels a side of the volumes it is trained on; others are taken too.
        patch_size: voxels a side of a token.
        embed_dim: channels of a token.
        depth: number of blocks.
        heads: attention heads of a block.
        mlp_ratio: hidden channels of the MLP over ``embed_dim``.
        ffn_blocks: how many of the first blocks have no attention.
        out_channels: channels of the embedding.
        patterns: (segment length, dilation) of each group of heads, in tokens; segment ``None`` is dense.
        order: ``raster``, or ``morton``, in which segments of 8^k tokens are compact cubes.
        stem: replaces the single-convolution patch embedding, see :class:`ConvStem3D`.
    """

    def __init__(
        self,
        image_size: int = 128,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 6,
        heads: int = 6,
        mlp_ratio: float = 4.0,
        ffn_blocks: int = 2,
        out_channels: int = 384,
        patterns: Sequence[Sequence[int | None]] = PAPER_PATTERNS,
        order: str = "raster",
        stem: ConvStem3D | None = None,
    ) -> None:
        super().__init__()
        if order not in ("raster", "morton"):
            raise ValueError(f"order {order!r}: expected raster or morton")
        if stem is not None and stem.patch_size != patch_size:
            raise ValueError(
                f"a stem of patch size {stem.patch_size} in an encoder of patch size {patch_size}; expected the same"
            )
        self.patch_size = patch_size
        self.order = order
        self.patch_embed = stem or PatchEmbed3D(patch_size, embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, *(image_size // patch_size,) * 3, embed_dim))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.blocks = nn.ModuleList(
            Block(embed_dim, mlp_ratio, SparseAttention(embed_dim, heads, patterns) if i >= ffn_blocks else None)
            for i in range(depth)
        )
        self.neck = neck3d(embed_dim, out_channels)

    def forward(self, image: Tensor) -> Embedding:
        """(B, 1, D, H, W), each side a multiple of the patch -> embedding with features (B, C, d, h, w).

        Raises:
            ValueError: a side that is no multiple of the patch.
        """
        outputs, grid, skips = self._run(image)
        return Embedding(self.neck(self._on_grid(outputs[-1], grid).movedim(-1, 1)), tuple(image.shape[2:]), skips)

    def forward_features(self, image: Tensor) -> tuple[Tensor, list[Tensor], tuple[Tensor, ...]]:
        """(B, 1, D, H, W) -> last tokens (B, d, h, w, C), the outputs of all blocks in that form, finer maps."""
        outputs, grid, skips = self._run(image)
        outputs = [self._on_grid(x, grid) for x in outputs]
        return outputs[-1], outputs, skips

    def _run(self, image: Tensor) -> tuple[list[Tensor], Sequence[int], tuple[Tensor, ...]]:
        """The outputs of all blocks, (B, tokens, C) in the blocks' order; the grid; finer maps."""
        if any(n % self.patch_size for n in image.shape[2:]):
            raise ValueError(f"volume of {tuple(image.shape[2:])} voxels: expected multiples of {self.patch_size}")
        embedded = self.patch_embed(image)
        x, skips = embedded if isinstance(embedded, tuple) else (embedded, ())
        grid = x.shape[1:4]
        # A convolution leaves the channels outermost in memory; every layer from here on wants them innermost.
        x = (x + resize_grid(self.pos_embed, grid)).flatten(1, 3).contiguous()
        # Only attention depends on the order of the tokens: they are put in order once, and back once.
        if self.order == "morton":
            x = x[:, morton_order(tuple(grid), x.device)]
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return outputs, grid, skips

    def _on_grid(self, x: Tensor, grid: Sequence[int]) -> Tensor:
        """(B, tokens, C) in the blocks' order -> (B, d, h, w, C)."""
        if self.order == "morton":
            x = x[:, morton_order(tuple(grid), x.device).argsort()]
        return x.unflatten(1, grid)
