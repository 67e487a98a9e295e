# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Prompts as tokens: points, boxes and masks (SAM-Med3D's 3D form of SAM's prompt encoder)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .layers import ChannelNorm

BACKGROUND, FOREGROUND, PADDING = 0, 1, -1


class RandomFourierCode(nn.Module):
    """Positional code of places in [0, 1]^3 by random spatial frequencies (SAM, appendix A, in 3D).

    c = (2 p - 1) G 2 pi with G of 3 x channels/3; code = [sin c, cos c, sin c].
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels % 3:
            raise ValueError(f"{channels} channels; expected a multiple of 3 for the 3D positional code")
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(3, channels // 3))

    def forward(self, places: Tensor) -> Tensor:
        """(..., 3) places in [0, 1] -> (..., channels)."""
        matrix = self.positional_encoding_gaussian_matrix
        # In half precision a phase of several turns would lose its fraction.
        exact = torch.promote_types(matrix.dtype, torch.float32)
        phase = ((2 * places.to(exact) - 1) @ matrix.to(exact)) * (2 * math.pi)
        sine = phase.sin()
        return torch.cat([sine, phase.cos(), sine], dim=-1).to(matrix.dtype)

    def grid(self, size: Sequence[int]) -> Tensor:
        """(1, channels, d, h, w): the code of the centre of every cell of a grid."""
        device = self.positional_encoding_gaussian_matrix.device
        axes = [(torch.arange(n, device=device) + 0.5) / n for n in size]
        return self(torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)).permute(3, 0, 1, 2)[None]


class PromptEncoder3D(nn.Module):
    """Points and boxes become sparse tokens, a mask becomes a dense embedding added to the image's.

    Args:
        embed_dim: channels of a token; a multiple of 3.
        mask_in_chans: channels inside the mask's convolutions.
        boxes: whether there are learned corner embeddings. Published SAM-Med3D weights have none.
        code: the positional code; published weights need :class:`.published.SwappedFourierCode`.
    """

    def __init__(
        self,
        embed_dim: int = 384,
        mask_in_chans: int = 16,
        boxes: bool = False,
        code: RandomFourierCode | None = None,
    ) -> None:
        super().__init__()
        self.pe_layer = code or RandomFourierCode(embed_dim)
        # 0 background, 1 foreground; 2 and 3 the low and high corner of a box.
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(4 if boxes else 2))
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        self.no_mask_embed = nn.Embedding(1, embed_dim)
        hidden = mask_in_chans // 4
        self.mask_downscaling = nn.Sequential(
            nn.Conv3d(1, hidden, kernel_size=2, stride=2),
            ChannelNorm(hidden),
            nn.GELU(),
            nn.Conv3d(hidden, mask_in_chans, kernel_size=2, stride=2),
            ChannelNorm(mask_in_chans),
            nn.GELU(),
            nn.Conv3d(mask_in_chans, embed_dim, kernel_size=1),
        )

    @property
    def takes_boxes(self) -> bool:
        """Whether boxes have learned embeddings here."""
        return len(self.point_embeddings) == 4

    def forward(
        self,
        image_size: Sequence[int],
        grid: Sequence[int],
        points: Tensor,
        labels: Tensor,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        zeros_for_no_mask: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Tokens of the prompts of N objects in one cube.

        Args:
            image_size: voxels of the cube along its three axes.
            grid: cells of its embedding, (d, h, w).
            points: (N, P, 3) voxel indices in the cube; P may be 0.
            labels: (N, P) 1 foreground, 0 background, -1 not a point.
            boxes: (N, 2, 3) low and high corner, voxel indices.
            masks: (N, 1, 4d, 4h, 4w) logits of the last mask.
            zeros_for_no_mask: without masks, embed logits of 0 and not take the embedding learned for no mask.

        Returns:
            sparse (N, T, C) and dense (N, C, d, h, w).

        Raises:
            ValueError: boxes for weights without box embeddings; a mask on another grid.
        """
        if boxes is None:
            # SAM-Med3D's decoder has learned to see one padding token wherever there is no box.
            points = torch.cat([points, points.new_zeros(len(points), 1, 3)], dim=1)
            labels = torch.cat([labels, labels.new_full((len(labels), 1), PADDING)], dim=1)
        sparse = self._point_tokens(points, labels, image_size)
        if boxes is not None:
            sparse = torch.cat([sparse, self._box_tokens(boxes, image_size)], dim=1)
        dtype = self.no_mask_embed.weight.dtype
        if masks is not None:
            if tuple(masks.shape[-3:]) != tuple(4 * n for n in grid):
                raise ValueError(
                    f"mask of {tuple(masks.shape[-3:])} for an embedding of {tuple(grid)}: expected 4 times"
                )
            return sparse, self.mask_downscaling(masks.to(dtype))
        if zeros_for_no_mask:
            # All cells of it are alike: one is enough.
            cell = self.mask_downscaling(torch.zeros(1, 1, 4, 4, 4, dtype=dtype, device=sparse.device))
        else:
            cell = self.no_mask_embed.weight.view(1, -1, 1, 1, 1)
        return sparse, cell.expand(len(sparse), -1, *grid)

    def _places(self, voxels: Tensor, image_size: Sequence[int]) -> Tensor:
        return (voxels.float() + 0.5) / torch.tensor(image_size, dtype=torch.float32, device=voxels.device)

    def _point_tokens(self, points: Tensor, labels: Tensor, image_size: Sequence[int]) -> Tensor:
        code = self.pe_layer(self._places(points, image_size))
        kind = labels[..., None]
        code = torch.where(kind == PADDING, self.not_a_point_embed.weight, code)
        code = torch.where(kind == BACKGROUND, code + self.point_embeddings[BACKGROUND].weight, code)
        return torch.where(kind == FOREGROUND, code + self.point_embeddings[FOREGROUND].weight, code)

    def _box_tokens(self, boxes: Tensor, image_size: Sequence[int]) -> Tensor:
        if not self.takes_boxes:
            raise ValueError("a box was given to weights without box embeddings: give its centre as a point")
        code = self.pe_layer(self._places(boxes, image_size))
        return code + torch.cat([self.point_embeddings[2].weight, self.point_embeddings[3].weight])
