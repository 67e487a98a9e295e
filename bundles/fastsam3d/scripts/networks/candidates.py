# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Several masks for one click, which may mean a part or the whole (SAM, Kirillov et al. 2023, section 3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .layers import Head

# Names in a state dict, in front of these tensors.
PREFIX = "mask_decoder.candidates."
# A single mask of which less is expected to be right is a flood more often than not: docs/notebook/weights.md.
UNSURE = 0.4
# Divides logits to make probabilities of them, as calibrated for the shipped weights.
TEMPERATURE = 2.8
# Cells whose logit is lower are taken to be outside for sure: there are so many that a little of each would be a lot.
DOUBTED = -4.0


class Candidates(nn.Module):
    """Tokens and heads of the masks that are offered for a first click; they have the names of the decoder's own.

    A decoder is shown these tokens in place of its own: what it answers to any other prompt stays as it is.

    Args:
        count: masks.
        embed_dim: channels of a token.
        out_channels: channels of the enlarged image, which each mask weighs.
        iou_head_depth, iou_head_hidden_dim: of the head that predicts each mask's IoU, and so chooses.
    """

    def __init__(
        self, count: int, embed_dim: int, out_channels: int, iou_head_depth: int, iou_head_hidden_dim: int
    ) -> None:
        super().__init__()
        self.iou_token = nn.Embedding(1, embed_dim)
        self.mask_tokens = nn.Embedding(count, embed_dim)
        self.output_hypernetworks_mlps = nn.ModuleList(Head(embed_dim, embed_dim, out_channels) for _ in range(count))
        self.iou_prediction_head = Head(embed_dim, iou_head_hidden_dim, count, iou_head_depth)
        # Counted by the training: weights of 0 have not learned to offer candidates, and offer none.
        self.register_buffer("learned", torch.zeros(()))


def unsure(logits: Tensor) -> Tensor:
    """Which single masks are better answered by a candidate.

    Args:
        logits: (N, 1, D, H, W).

    Returns:
        (N,) bool.
    """
    each = (expected_overlap(mask[mask > DOUBTED], TEMPERATURE) for mask in logits.float())
    return torch.stack([intersection < UNSURE * union for intersection, union in each])


def expected_overlap(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """How many cells a mask and its object are expected to share, and to have together.

    Of a mask M, with independent cells that are the object's with probability p, the expected intersection is the sum
    of p over M, and the expected union the cells of M and the sum of p over all others.

    Args:
        logits: (cells,) of all cells that may be the object's.
        temperature: of the probabilities.
    """
    likely, mask = torch.sigmoid(logits / temperature), logits > 0
    return likely[mask].sum(), mask.sum() + likely[~mask].sum()


def with_candidates(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights from before there were candidates, with these as copies of the single mask: a start to learn from.

    Args:
        state: of such weights, or of others, which stay as they are.
        expected: the network's own state dict.
    """
    state = dict(state)
    missing = [k for k in expected if k.startswith(PREFIX)]
    if any(k in state for k in missing):
        return state
    for key in missing:
        name = key.removeprefix(PREFIX)
        parts = name.split(".")
        if parts[0] == "output_hypernetworks_mlps":
            name = ".".join([parts[0], "0", *parts[2:]])
        single = state.get(f"mask_decoder.{name}")
        wanted = expected[key].shape
        if single is not None and single.shape != wanted and single.shape[1:] == wanted[1:]:
            # A row for each mask, the single one's first.
            single = single[:1].expand(wanted).clone()
        # What has no like among them is whether candidates were learned: they were not.
        state[key] = torch.zeros_like(expected[key]) if single is None or single.shape != wanted else single
    return state
