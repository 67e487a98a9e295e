# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""From the image's embedding and the prompts' tokens to mask logits (SAM's mask decoder in 3D)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.sparse_attention.constants import constant
from .candidates import Candidates
from .layers import MLP, ChannelNorm, Head


class Attention(nn.Module):
    """Attention between two sets of tokens, at ``width / reduction`` channels inside."""

    def __init__(self, width: int, heads: int, reduction: int = 1) -> None:
        super().__init__()
        inner = width // reduction
        if inner % heads:
            raise ValueError(f"{inner} channels cannot be divided among {heads} heads; expected a multiple")
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (N, Tq, C), k and v (N, Tk, C) -> (N, Tq, C)."""
        q, k, v = (
            proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for proj, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class TwoWayBlock(nn.Module):
    """Tokens attend to each other, then to the image; then an MLP; then the image attends to the tokens."""

    def __init__(self, width: int, heads: int, mlp_dim: int, attention: type[Attention], first: bool) -> None:
        super().__init__()
        self.self_attn = attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = attention(width, heads, 2)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, mlp_dim, nn.ReLU)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = attention(width, heads, 2)
        self.first = first

    def forward(self, tokens: Tensor, image: Tensor, token_code: Tensor, image_code: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (N, T, C), image (N, d*h*w, C), both with their positional codes -> both, updated."""
        if self.first:
            # Before anything was mixed, the tokens are their own codes.
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            q = tokens + token_code
            tokens = tokens + self.self_attn(q, q, tokens)
        tokens = self.norm1(tokens)
        k = image + image_code
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_code, k, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(k, tokens + token_code, tokens))
        return tokens, image


class TwoWayTransformer(nn.Module):
    """``depth`` two-way blocks, then the tokens attend to the image once more."""

    def __init__(self, width: int, depth: int, heads: int, mlp_dim: int, attention: type[Attention]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(width, heads, mlp_dim, attention, first=i == 0) for i in range(depth))
        self.final_attn_token_to_image = attention(width, heads, 2)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(self, image: Tensor, image_code: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """image (N, d*h*w, C), its code (1, d*h*w, C), tokens (N, T, C) -> tokens, image, both updated."""
        token_code = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_code, image_code)
        attended = self.final_attn_token_to_image(tokens + token_code, image + image_code, image)
        return self.norm_final_attn(tokens + attended), image


class SplitCells(nn.ConvTranspose3d):
    """A transposed convolution of kernel and stride 2 on cells in a row: each is replaced by its eight halves.

    Where the kernel is the stride it is a matrix product. See ``to_cells`` for the order.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, cells, C) -> (B, 8 * cells, C')."""
        return F.linear(x, *self.as_linear()).unflatten(2, (8, -1)).flatten(1, 2)

    def as_linear(self) -> tuple[Tensor, Tensor]:
        """Weight (8 C', C) and bias (8 C') of the product."""
        return self.weight.permute(2, 3, 4, 1, 0).flatten(0, 3), self.bias.repeat(8)


class MaskDecoder3D(nn.Module):
    """SAM's mask decoder on 3D tokens; four times enlarged logits and a predicted IoU for each mask.

    Args:
        embed_dim: channels of the image's embedding and of the tokens.
        depth, heads, mlp_dim: of the two-way transformer.
        num_multimask_outputs: masks offered when ``multimask`` is asked for, beside the single one.
        iou_head_depth, iou_head_hidden_dim: of the head that predicts each mask's IoU.
        skip_channels: channels of the finer feature maps that the encoder hands over, coarse to fine, at twice and
            four times the embedding's grid (the high-resolution features of SAM 2). Empty in the published form.
        attention: the attention to build from.
        candidates: masks with tokens of their own, for a first click; see :mod:`.candidates`. 0 for none.
    """

    def __init__(
        self,
        embed_dim: int = 384,
        depth: int = 2,
        heads: int = 8,
        mlp_dim: int = 2048,
        num_multimask_outputs: int = 3,
        iou_head_depth: int = 3,
        iou_head_hidden_dim: int = 256,
        skip_channels: Sequence[int] = (),
        attention: type[Attention] = Attention,
        candidates: int = 0,
    ) -> None:
        super().__init__()
        masks = num_multimask_outputs + 1
        self.transformer = TwoWayTransformer(embed_dim, depth, heads, mlp_dim, attention)
        self.iou_token = nn.Embedding(1, embed_dim)
        self.mask_tokens = nn.Embedding(masks, embed_dim)
        half, eighth = embed_dim // 4, embed_dim // 8
        self.output_upscaling = nn.Sequential(
            SplitCells(embed_dim, half),
            ChannelNorm(half),
            nn.GELU(),
            SplitCells(half, eighth),
            nn.GELU(),
        )
        self.skips = nn.ModuleList(
            nn.Conv3d(channels, out, kernel_size=1)
            for channels, out in zip(skip_channels, (half, eighth), strict=False)
        )
        self.output_hypernetworks_mlps = nn.ModuleList(Head(embed_dim, embed_dim, eighth) for _ in range(masks))
        self.iou_prediction_head = Head(embed_dim, iou_head_hidden_dim, masks, iou_head_depth)
        heads = candidates, embed_dim, eighth, iou_head_depth, iou_head_hidden_dim
        self.candidates = Candidates(*heads) if candidates else None

    def forward(
        self,
        features: Tensor,
        image_code: Tensor,
        sparse: Tensor,
        dense: Tensor,
        multimask: bool = False,
        skips: Sequence[Tensor] = (),
        candidates: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Masks of N objects in one image.

        Args:
            features: (1, C, d, h, w), or (N, C, d, h, w) where each object has its own image.
            image_code: (1, C, d, h, w).
            sparse: (N, T, C).
            dense: (N, C, d, h, w).
            multimask: return the alternatives instead of the single mask.
            skips: of the image, from :meth:`project_skips`.
            candidates: return the candidates for a first click.

        Returns:
            logits (N, M, 4d, 4h, 4w) and predicted IoU (N, M); M = 1, ``num_multimask_outputs`` or ``candidates``.
        """
        asked = self.candidates if candidates else self
        own = torch.cat([asked.iou_token.weight, asked.mask_tokens.weight])
        tokens = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
        cells = (to_cells(features) + to_cells(dense)).contiguous()
        tokens, cells = self.transformer(cells, to_cells(image_code), tokens)
        wanted = slice(None) if candidates else slice(1, None) if multimask else slice(0, 1)
        heads = list(asked.output_hypernetworks_mlps)[wanted]
        # The first token is for the IoU, the following ones for the masks in order.
        mask_tokens = tokens[:, 1 : 1 + len(asked.output_hypernetworks_mlps)][:, wanted]
        weights = torch.stack([head(mask_tokens[:, i]) for i, head in enumerate(heads)], dim=1)
        logits = from_cells(self._logits(cells, skips, weights.transpose(1, 2)), features.shape[2:], depth=2)
        return logits, asked.iou_prediction_head(tokens[:, 0])[:, wanted]

    def project_skips(self, skips: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """An encoder's finer feature maps (B, c, k d, k h, k w), coarse to fine -> what ``forward`` adds of each.

        It depends on the image alone: computed once, it serves every click.
        """
        projected = (skip(x) for x, skip in zip(skips, self.skips, strict=False))
        return tuple(to_cells(x, depth) for depth, x in enumerate(projected, start=1))

    def _logits(self, cells: Tensor, skips: Sequence[Tensor], weights: Tensor) -> Tensor:
        """Cells (N, d*h*w, C) and masks' weights (N, C / 8, M) -> (N, 64*d*h*w, M)."""
        if cells.device.type != "cpu" or torch.is_grad_enabled():
            return self._enlarge(cells, skips) @ weights
        # One object after the other: what is made of one stays in a processor's cache, what is made of all does not.
        each = zip(*(x.expand(len(cells), -1, -1).split(1) for x in (cells, weights, *skips)), strict=True)
        return torch.cat([self._enlarge(one, finer) @ its_weights for one, its_weights, *finer in each])

    def _enlarge(self, cells: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """(N, d*h*w, C) -> (N, 64*d*h*w, C / 8), every cell followed by its parts, as ``to_cells`` orders them.

        All that follows is pointwise in this order: only the logits are ever brought onto the grid.
        """
        up1, norm, act1, up2, act2 = self.output_upscaling
        x = up1(cells)
        if self.skips:
            x = x + skips[0]
        x = act1(F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps))
        x = up2(x)
        if self.skips:
            x = x + skips[1]
        return act2(x)


def to_cells(x: Tensor, depth: int = 0) -> Tensor:
    """(B, C, 2^depth d, 2^depth h, 2^depth w) -> (B, cells, C): cells of (d, h, w), each halved ``depth`` times.

    The eight halves of a cell follow each other, each with its own halves.
    """
    for axis in (4, 3, 2):
        x = x.unflatten(axis, (-1, *(2,) * depth))
    # (B, C, d, 2, ..., h, 2, ..., w, 2, ...): the three axes take turns.
    turns = [2 + axis * (depth + 1) + level for level in range(depth + 1) for axis in range(3)]
    return x.permute(0, *turns, 1).flatten(1, -2)


def from_cells(x: Tensor, grid: tuple[int, int, int], depth: int) -> Tensor:
    """The inverse of ``to_cells``: (B, cells, C) -> (B, C, 2^depth d, 2^depth h, 2^depth w)."""
    raster = x.transpose(1, 2)[..., _raster_places(tuple(grid), depth, x.device)]
    return raster.unflatten(2, [n << depth for n in grid])


@constant
def _raster_places(grid: tuple[int, int, int], depth: int, device: torch.device) -> Tensor:
    """Where ``to_cells`` puts each voxel. One look-up is several times as fast as a permutation of eleven axes."""
    size = [n << depth for n in grid]
    return to_cells(torch.arange(math.prod(size), device=device).view(1, 1, *size), depth).flatten().argsort()
