# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The published networks with every step spelled out as their code does it.

This project's own reproductions of them go through fused attention and fused norms already, and would make the
published ones look faster than they are. Each class here computes what the class it replaces computes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bundles.fastsam3d.scripts.networks.image_encoder import ImageEncoder3D, RelativeAttention, relative_table
from bundles.fastsam3d.scripts.networks.layers import ChannelNorm
from bundles.fastsam3d.scripts.networks.mask_decoder import Attention, MaskDecoder3D
from bundles.fastsam3d.scripts.networks.prompt_encoder import PromptEncoder3D
from bundles.fastsam3d.scripts.networks.published import PublishedStudent3D, StridedGroupAttention, SwappedFourierCode


class SpelledRelativeAttention(RelativeAttention):
    """Logits, three relative positions added one after the other, softmax and product (cubic grids only)."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, grid: Sequence[int]) -> Tensor:
        """See GridAttention.attend."""
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        places = q.unflatten(2, tuple(grid))
        tables = (relative_table(getattr(self, f"rel_pos_{axis}"), n) for axis, n in zip("dhw", grid, strict=True))
        t_d, t_h, t_w = (
            torch.einsum(f"bndhwc,{axis}kc->bndhwk", places, table) for axis, table in zip("dhw", tables, strict=True)
        )
        shape = logits.shape
        logits = logits.reshape(*shape[:2], *grid, *grid)
        logits = logits + t_d[..., None, None, :]
        logits = logits + t_h[:, :, :, :, None, :, None, :]
        logits = logits + t_w[:, :, :, :, None, None, :, :]
        return logits.reshape(shape).softmax(dim=-1) @ v


class SpelledAttention(Attention):
    """The decoder's attention as two products with a softmax between them."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See Attention.forward."""
        q, k, v = (
            proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for proj, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        logits = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        return self.out_proj((logits.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))


class SpelledChannelNorm(ChannelNorm):
    """Mean, variance and scale as operations of their own."""

    def forward(self, x: Tensor) -> Tensor:
        """See ChannelNorm.forward."""
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None, None] * x + self.bias[:, None, None, None]


class SpelledMaskDecoder3D(MaskDecoder3D):
    """All masks upscaled by transposed convolutions on the grid, then the wanted ones picked."""

    def forward(
        self,
        features: Tensor,
        image_code: Tensor,
        sparse: Tensor,
        dense: Tensor,
        multimask: bool = False,
        skips: Sequence[Tensor] = (),
    ) -> tuple[Tensor, Tensor]:
        """See MaskDecoder3D.forward; there are no skips."""
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
        image = features.repeat_interleave(len(tokens), dim=0) + dense
        code = image_code.repeat_interleave(len(tokens), dim=0)
        shape = image.shape
        tokens, image = self.transformer(image.flatten(2).permute(0, 2, 1), code.flatten(2).permute(0, 2, 1), tokens)
        fine = image.transpose(1, 2).reshape(shape)
        for layer in self.output_upscaling:
            transposed = isinstance(layer, nn.ConvTranspose3d)
            fine = F.conv_transpose3d(fine, layer.weight, layer.bias, stride=2) if transposed else layer(fine)
        heads = enumerate(self.output_hypernetworks_mlps)
        weights = torch.stack([head(tokens[:, 1 + i]) for i, head in heads], dim=1)
        masks = (weights @ fine.flatten(2)).unflatten(2, fine.shape[2:])
        wanted = slice(1, None) if multimask else slice(0, 1)
        return masks[:, wanted], self.iou_prediction_head(tokens[:, 0])[:, wanted]


def spell_norms(module: nn.Module) -> nn.Module:
    """Every ``ChannelNorm`` inside ``module`` replaced, in place, by its spelled-out form with the same parameters."""
    for name, child in module.named_children():
        if type(child) is ChannelNorm:
            spelled = SpelledChannelNorm(len(child.weight), child.eps)
            spelled.weight, spelled.bias = child.weight, child.bias
            setattr(module, name, spelled)
        else:
            spell_norms(child)
    return module


def teacher(**sizes: object) -> nn.Module:
    """SAM-Med3D's image encoder; without arguments as its public weights are."""
    encoder = ImageEncoder3D(**sizes)
    for block in encoder.blocks:
        # The same layers and the same parameters: only what is done with queries, keys and values is another.
        block.attn.__class__ = SpelledRelativeAttention
    return spell_norms(encoder)


def dense_student(**sizes: object) -> nn.Module:
    """FastSAM3D's student with attention over the whole grid."""
    return spell_norms(PublishedStudent3D(**sizes, attention=SpelledRelativeAttention))


def sparse_student(**sizes: object) -> nn.Module:
    """FastSAM3D's sparse student; torch's fused attention stands in for flash-attn, all 64 groups in one call."""
    return spell_norms(PublishedStudent3D(**sizes, attention=StridedGroupAttention))


def prompt_encoder(channels: int) -> PromptEncoder3D:
    """SAM-Med3D's prompt encoder."""
    return spell_norms(PromptEncoder3D(channels, code=SwappedFourierCode(channels)))


def mask_decoder(channels: int, **sizes: object) -> MaskDecoder3D:
    """SAM-Med3D's mask decoder."""
    return spell_norms(SpelledMaskDecoder3D(channels, **sizes, attention=SpelledAttention))
