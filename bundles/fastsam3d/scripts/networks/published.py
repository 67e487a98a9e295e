# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""FastSAM3D (arXiv 2403.09827) as its weights were published, oddities included, so that these weights can be loaded.

The dense student is ``PublishedStudent3D(attention=RelativeAttention)``, the sparse one
``PublishedStudent3D(attention=StridedGroupAttention)``, the flash decoder ``MaskDecoder3D(attention=FlashAttention)``,
the prompt encoder ``PromptEncoder3D(code=SwappedFourierCode(channels))``.
What this project trains itself is in student.py and mask_decoder.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .image_encoder import PublishedViT3D, RelativeAttention
from .layers import MLP
from .mask_decoder import Attention
from .prompt_encoder import RandomFourierCode

GROUPS = 64


class SwappedFourierCode(RandomFourierCode):
    """The positional code of SAM-Med3D's weights: the grid's first two axes are swapped against those of the points."""

    def grid(self, size: Sequence[int]) -> Tensor:
        """See RandomFourierCode.grid."""
        return super().grid((size[1], size[0], size[2])).transpose(2, 3)


class StridedGroupAttention(RelativeAttention):
    """The sparse form's attention: tokens i, i + 64, i + 128, ... attend to each other.

    The groups' results are laid one after the other and read as the grid, so that tokens change places: of 512, place
    8 i + j gets token i + 64 j. The relative positions are in the checkpoints and take no part.
    """

    def attend(self, q: Tensor, k: Tensor, v: Tensor, grid: Sequence[int]) -> Tensor:
        """(B, heads, tokens, c) -> (B, heads, tokens, c), the tokens group by group."""
        tokens = q.shape[2]
        rows = -(-tokens // GROUPS)
        # Where the groups do not come out even, the first ones hold one token more than the others.
        longer = tokens - (rows - 1) * GROUPS
        padding = (0, 0, 0, rows * GROUPS - tokens)
        qkv = [F.pad(x, padding).unflatten(2, (rows, GROUPS)).permute(0, 3, 1, 2, 4) for x in (q, k, v)]
        parts = [attend_in_groups(*(x[:, :longer] for x in qkv))]
        if longer < GROUPS and rows > 1:
            parts.append(attend_in_groups(*(x[:, longer:, :, : rows - 1] for x in qkv)))
        return torch.cat(parts, dim=2)


def attend_in_groups(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Three times (B, groups, heads, rows, c) -> (B, heads, groups * rows, c); each group attends to itself."""
    attended = F.scaled_dot_product_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1))
    return attended.unflatten(0, q.shape[:2]).transpose(1, 2).flatten(2, 3)


class FeedForwardBlock(nn.Module):
    """A block without attention. The residual starts after the norm, as in all blocks of the published student."""

    def __init__(self, width: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, int(width * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """(B, d, h, w, C) -> (B, d, h, w, C)."""
        x = self.norm2(x)
        return x + self.mlp(x)


class AttentionBlock(FeedForwardBlock):
    """Attention over the whole grid with its own residual, then the same as in a block without it."""

    def __init__(self, width: int, mlp_ratio: float, attention: nn.Module) -> None:
        super().__init__(width, mlp_ratio)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = attention

    def forward(self, x: Tensor) -> Tensor:
        """(B, d, h, w, C) -> (B, d, h, w, C)."""
        return super().forward(x + self.attn(self.norm1(x)))


class PublishedStudent3D(PublishedViT3D):
    """FastSAM3D's student; the defaults are those of its public weights.

    Args:
        img_size, patch_size, embed_dim, out_chans, in_chans: see PublishedViT3D.
        depth, num_heads: blocks, and attention heads of each.
        mlp_ratio: hidden width of an MLP over ``embed_dim``.
        skip_layer: how many of the first blocks have no attention.
        attention: RelativeAttention for the dense form, StridedGroupAttention for the sparse one. Both have the same
            state dict.
    """

    def __init__(
        self,
        img_size: int = 128,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 6,
        num_heads: int = 6,
        mlp_ratio: float = 4,
        out_chans: int = 384,
        skip_layer: int = 2,
        attention: type[RelativeAttention] = RelativeAttention,
        in_chans: int = 1,
    ) -> None:
        blocks: list[nn.Module] = [FeedForwardBlock(embed_dim, mlp_ratio) for _ in range(skip_layer)]
        for _ in range(skip_layer, depth):
            heads = attention(embed_dim, num_heads, img_size // patch_size)
            blocks.append(AttentionBlock(embed_dim, mlp_ratio, heads))
        super().__init__(img_size, patch_size, embed_dim, out_chans, blocks, in_chans)


class FlashAttention(Attention):
    """The flash decoder's attention: the output projection sees the channels with the heads innermost.

    Queries, keys, values and results are rounded to half precision, as the weights saw them in training. What lies near
    a rounding boundary follows the order of operations, so that it is spelled out here.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (N, Tq, C), k and v (N, Tk, C) -> (N, Tq, C)."""
        q, k, v = (
            round_to_half(proj(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for proj, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)
        attended = round_to_half(weights @ v)
        return self.out_proj(attended.permute(0, 2, 3, 1).flatten(2))


def round_to_half(x: Tensor) -> Tensor:
    """The nearest half-precision numbers, in the dtype of ``x``."""
    return x.half().to(x.dtype)
