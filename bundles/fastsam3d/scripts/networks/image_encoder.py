# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""From a volume to its embedding: SAM-Med3D's 3D vision transformer, the teacher of FastSAM3D.

State-dict keys are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import MLP, PatchEmbed3D, neck3d, resize_grid


class GridAttention(nn.Module):
    """Multi-head self-attention among all tokens of a 3D grid."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{width} channels cannot be divided among {heads} heads; expected a multiple")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, d, h, w, C) -> (B, d, h, w, C)."""
        qkv = self.qkv(x).flatten(1, 3).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = self.attend(q, k, v, x.shape[1:4])
        return self.proj(attended.transpose(1, 2).reshape(x.shape))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, grid: Sequence[int]) -> Tensor:
        """Three times (B, heads, tokens, c), tokens in raster order of ``grid`` -> (B, heads, tokens, c)."""
        return F.scaled_dot_product_attention(q, k, v)


class RelativeAttention(GridAttention):
    """Attention with SAM-Med3D's decomposed relative positions, on the axes that its weights were trained with.

    With R_d[i, k] = rel_pos_d[i - k + K - 1] (R_h and R_w likewise) and q of one head, unscaled:

        t_d[d,h,w,k] = q[d,h,w] . R_d[d,k]     t_h[d,h,w,k] = q[d,h,w] . R_h[h,k]     t_w[d,h,w,k] = q[d,h,w] . R_w[w,k]
        logits[d,h,w, kd,kh,kw] += t_d[d,h,w,kw] + t_h[d,h,kd,kw] + t_w[d,h,kh,kw]

    The axes are wrong (a term is read at a key's axis where the query's is meant), but public weights depend on them.
    On a grid that is no cube a term and the axes where it is read differ in length; it is then resized linearly to
    them, which changes nothing on a cube. Tables trained for another grid are resized linearly, as in SAM.
    """

    def __init__(self, width: int, heads: int, size: int) -> None:
        super().__init__(width, heads)
        for axis in "dhw":
            setattr(self, f"rel_pos_{axis}", nn.Parameter(torch.zeros(2 * size - 1, width // heads)))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, grid: Sequence[int]) -> Tensor:
        """See GridAttention.attend."""
        bias = self._bias(q.unflatten(2, grid))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)

    def _bias(self, q: Tensor) -> Tensor:
        """q (B, heads, d, h, w, c) -> what is added to the logits, (B, heads, tokens, tokens)."""
        depth, height, width = q.shape[2:5]
        t_d = torch.einsum("bndhwc,dkc->bndhwk", q, relative_table(self.rel_pos_d, depth))
        t_h = torch.einsum("bndhwc,hkc->bndhwk", q, relative_table(self.rel_pos_h, height))
        t_w = torch.einsum("bndhwc,wkc->bndhwk", q, relative_table(self.rel_pos_w, width))
        t_d = resize_last(t_d, (width, width))[..., None, None, :]
        t_h = resize_last(t_h, (depth, width))[:, :, :, :, None, :, None, :]
        t_w = resize_last(t_w, (height, width))[:, :, :, :, None, None, :, :]
        return (t_d + (t_h + t_w)).flatten(5).flatten(2, 4)


def relative_table(positions: Tensor, size: int) -> Tensor:
    """Embeddings (2 K - 1, c) of the distances 1 - K .. K - 1 -> (size, size, c): that of i - k at [i, k].

    Where K is not ``size``, the embeddings are resized linearly first.
    """
    if len(positions) != 2 * size - 1:
        positions = F.interpolate(positions.T[None], size=2 * size - 1, mode="linear")[0].T
    index = torch.arange(size, device=positions.device)
    return positions[index[:, None] - index + size - 1]


def resize_last(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize the last two axes of ``x`` linearly; ``x`` is returned unchanged if they already fit."""
    if tuple(x.shape[-2:]) == size:
        return x
    resized = F.interpolate(x.reshape(1, -1, *x.shape[-2:]), size=size, mode="bilinear")
    return resized.reshape(*x.shape[:-2], *size)


def split_windows(x: Tensor, size: int) -> Tensor:
    """(B, d, h, w, C) -> (B * windows, size, size, size, C), zeros added at the end of each axis."""
    pad = [-n % size for n in x.shape[1:4]]
    if any(pad):
        x = F.pad(x, (0, 0, 0, pad[2], 0, pad[1], 0, pad[0]))
    for axis in (3, 2, 1):
        x = x.unflatten(axis, (-1, size))
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(0, 3)


def join_windows(windows: Tensor, grid: Sequence[int]) -> Tensor:
    """The inverse of split_windows for a grid (d, h, w); what was added is cut off."""
    size = windows.shape[1]
    counts = [-(-n // size) for n in grid]
    x = windows.unflatten(0, (-1, *counts)).permute(0, 1, 4, 2, 5, 3, 6, 7)
    x = x.reshape(len(x), *(count * size for count in counts), -1)
    return x[:, : grid[0], : grid[1], : grid[2]]


class Block(nn.Module):
    """A transformer block: attention (in windows of ``window_size``, 0 for the whole grid), then the MLP."""

    def __init__(self, width: int, mlp_ratio: float, attention: GridAttention, window_size: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = attention
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, int(width * mlp_ratio))
        self.window_size = window_size

    def forward(self, x: Tensor) -> Tensor:
        """(B, d, h, w, C) -> (B, d, h, w, C)."""
        attended = self.norm1(x)
        if self.window_size:
            attended = join_windows(self.attn(split_windows(attended, self.window_size)), x.shape[1:4])
        else:
            attended = self.attn(attended)
        x = x + attended
        return x + self.mlp(self.norm2(x))


class PublishedViT3D(nn.Module):
    """What SAM-Med3D's encoder and FastSAM3D's published students share: all but the blocks.

    Args:
        img_size: voxels along each axis of the cube that the weights are trained on; other volumes work as well, with
            the positional embedding resized.
        patch_size: voxels along each axis of a patch.
        embed_dim: channels of a token.
        out_chans: channels of the embedding.
        blocks: each takes and returns tokens (B, d, h, w, embed_dim).
        in_chans: channels of the volume.
    """

    def __init__(
        self,
        img_size: int,
        patch_size: int,
        embed_dim: int,
        out_chans: int,
        blocks: Iterable[nn.Module],
        in_chans: int = 1,
    ) -> None:
        super().__init__()
        size = img_size // patch_size
        self.patch_size = patch_size
        self.patch_embed = PatchEmbed3D(patch_size, embed_dim, in_chans)
        self.pos_embed = nn.Parameter(torch.zeros(1, size, size, size, embed_dim))
        self.blocks = nn.ModuleList(blocks)
        self.neck = neck3d(embed_dim, out_chans)

    def forward(self, x: Tensor) -> Tensor:
        """Volume (B, in_chans, D, H, W) -> embedding (B, out_chans, d, h, w), d = D / patch_size and so on.

        Raises:
            ValueError: a tensor that is no batch of volumes, or a size that is no multiple of the patch.
        """
        _, outputs = self.forward_features(x)
        return self.neck(outputs[-1].movedim(-1, 1))

    def forward_features(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Volume (B, in_chans, D, H, W) -> tokens with their positions and every block's output, all (B, d, h, w, C).

        For layer-wise distillation. ``neck`` makes the embedding of the last one, its channels moved to axis 1.
        """
        if x.dim() != 5 or any(n == 0 or n % self.patch_size for n in x.shape[2:]):
            raise ValueError(
                f"volume of shape {tuple(x.shape)}: expected (batch, channels, depth, height, width) with multiples of "
                f"the patch, {self.patch_size}, as sizes; pad or crop it"
            )
        tokens = self.patch_embed(x)
        tokens = embedded = tokens + resize_grid(self.pos_embed, tokens.shape[1:4])
        outputs = []
        for block in self.blocks:
            tokens = block(tokens)
            outputs.append(tokens)
        return embedded, outputs


class ImageEncoder3D(PublishedViT3D):
    """SAM-Med3D's image encoder (arXiv 2310.15161); the defaults are those of its public weights (``vit_b_ori``).

    Args:
        img_size, patch_size, embed_dim, out_chans, in_chans: see PublishedViT3D.
        depth, num_heads: blocks, and attention heads of each.
        mlp_ratio: hidden width of an MLP over ``embed_dim``.
        global_attn_indexes: blocks that attend to the whole grid; the others attend inside windows.
        window_size: tokens along each axis of a window; 0 makes every block attend to the whole grid.
        use_rel_pos: whether attention has relative positions.
    """

    def __init__(
        self,
        img_size: int = 128,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4,
        out_chans: int = 384,
        global_attn_indexes: Sequence[int] = (2, 5, 8, 11),
        window_size: int = 14,
        use_rel_pos: bool = True,
        in_chans: int = 1,
    ) -> None:
        def block(index: int) -> Block:
            window = 0 if index in global_attn_indexes else window_size
            if use_rel_pos:
                attention = RelativeAttention(embed_dim, num_heads, window or img_size // patch_size)
            else:
                attention = GridAttention(embed_dim, num_heads)
            return Block(embed_dim, mlp_ratio, attention, window)

        super().__init__(img_size, patch_size, embed_dim, out_chans, map(block, range(depth)), in_chans)
