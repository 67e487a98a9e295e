# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""From the text features of a label's name to a token for the mask decoder (S-SAM's text affine layer)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class TextAffine(nn.Module):
    """Linear, ReLU, BatchNorm.

    Args:
        text_dim: channels of the text features, 512 for CLIP ViT-B/32.
        embed_dim: channels of a token of the mask decoder.
    """

    def __init__(self, text_dim: int = 512, embed_dim: int = 256) -> None:
        super().__init__()
        self.linear = nn.Linear(text_dim, embed_dim)
        self.norm = nn.BatchNorm1d(embed_dim)

    def forward(self, features: Tensor) -> Tensor:
        """(K, text_dim), one row a label -> tokens (K, 1, embed_dim).

        While training the norm's statistics are those of the rows: give every label once. A single row has no
        variance: it is normed by the running statistics.
        """
        hidden = F.relu(self.linear(features.to(self.linear.weight.dtype)))
        if len(hidden) > 1:
            return self.norm(hidden)[:, None]
        norm = self.norm
        normed = F.batch_norm(hidden, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return normed[:, None]
