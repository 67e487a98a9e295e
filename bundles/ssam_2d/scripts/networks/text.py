# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""From the text features of a label's name to a token for the mask decoder (S-SAM's text affine layer)."""

from __future__ import annotations

import torch
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
        """(K, text_dim), one row a label -> tokens (K, 1, embed_dim), the same in training and after it.

        Always normed by the running statistics, see :meth:`calibrate`: those of a few names, or of one, would turn
        every token into little more than a sign, and differ from what is used afterwards.
        """
        hidden, norm = self._hidden(features), self.norm
        normed = F.batch_norm(hidden, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return normed[:, None]

    @torch.no_grad()
    def calibrate(self, features: Tensor) -> None:
        """Sets the norm's statistics to those over all these labels and channels: once, before training.

        One mean and one variance for all channels, so that two labels, or one, keep what tells them from others.

        Args:
            features: (L, text_dim).
        """
        hidden = self._hidden(features)
        self.norm.running_mean.fill_(hidden.mean())
        self.norm.running_var.fill_(hidden.var(unbiased=False))

    def _hidden(self, features: Tensor) -> Tensor:
        return F.relu(self.linear(features.to(self.linear.weight.dtype)))
