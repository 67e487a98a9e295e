# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Attention between a few prompt tokens and the many cells of an image, without projecting the image.

A score is (W_q x) . (W_k y) = x . (W_q' W_k y): the product of both projections goes to the side with few tokens, and
likewise with values and the output projection. A click has some seven tokens; with them this is a third of the work.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...networks.mask_decoder import Attention


class FewTokens(nn.Module):
    """What both directions share.

    Args:
        attention: of inference, which answers itself where there are many tokens.
    """

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.plain = attention
        # Of the scores, here of the weights that they are made with.
        self.scale = (len(attention.q_proj.weight) // attention.heads) ** -0.5

    def by_head(self, weight: Tensor) -> nn.Parameter:
        """(heads * c, C) -> (heads, c, C)."""
        return nn.Parameter(weight.detach().unflatten(0, (self.plain.heads, -1)).contiguous(), False)


class TokensToImage(FewTokens):
    """An ``Attention`` whose queries are tokens, and whose keys and values are the image's cells."""

    def __init__(self, attention: Attention) -> None:
        super().__init__(attention)
        self.key = self.by_head(self.scale * attention.k_proj.weight)
        self.value = self.by_head(attention.v_proj.weight)
        self.value_bias = nn.Parameter(attention.v_proj.bias.detach(), False)
        self.q_proj, self.out_proj = attention.q_proj, attention.out_proj

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (N, T, C), k and v (N, cells, C) -> (N, T, C)."""
        heads, inner = self.key.shape[:2]
        if not _few(q, self.key):
            return self.plain(q, k, v)
        q = self.q_proj(q).unflatten(2, (heads, inner)).transpose(1, 2)
        # The bias of the keys adds the same to all scores of a query: nothing changes.
        keyed = (q @ self.key).flatten(1, 2)
        # What matmul makes of these on a CPU takes longer in half precision.
        scores = torch.bmm(keyed, k.transpose(1, 2))
        seen = (scores.softmax(dim=2) @ v).unflatten(1, (heads, -1))
        answer = (seen @ self.value.transpose(1, 2)).transpose(1, 2).flatten(2)
        return self.out_proj(answer + self.value_bias)


class ImageToTokens(FewTokens):
    """An ``Attention`` whose queries are the image's cells, and whose keys and values are tokens."""

    def __init__(self, attention: Attention) -> None:
        super().__init__(attention)
        self.query = self.by_head(self.scale * attention.q_proj.weight)
        self.query_bias = self.by_head(self.scale * attention.q_proj.bias[:, None])
        self.out = self.by_head(attention.out_proj.weight.T)
        self.out_bias = nn.Parameter(attention.out_proj.bias.detach(), False)
        self.k_proj, self.v_proj = attention.k_proj, attention.v_proj

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (N, cells, C), k and v (N, T, C) -> (N, cells, C)."""
        heads, inner = self.query.shape[:2]
        if not _few(k, self.query):
            return self.plain(q, k, v)
        k, v = (p(x).unflatten(2, (heads, inner)).transpose(1, 2) for p, x in ((self.k_proj, k), (self.v_proj, v)))
        scores = torch.baddbmm((k @ self.query_bias).flatten(1, 2), (k @ self.query).flatten(1, 2), q.transpose(1, 2))
        # (N, heads, tokens, cells): over the tokens of each head.
        weights = scores.unflatten(1, (heads, -1)).softmax(dim=2).flatten(1, 2)
        return torch.baddbmm(self.out_bias, weights.transpose(1, 2), (v @ self.out).flatten(1, 2))


def _few(tokens: Tensor, weight: Tensor) -> bool:
    """Whether all heads of all tokens are fewer numbers than the projections of a cell."""
    return tokens.shape[1] < weight.shape[1]
