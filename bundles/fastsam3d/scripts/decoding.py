# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The prompts of objects in one cube, replayed click by click through the decoder."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# The decoder is trained on masks of at most this logit; anything larger would be new to it.
LARGEST_LOGIT = 10.0


@dataclass
class CubePrompt:
    """One object's prompts in the coordinates of a cube.

    Attributes:
        points: (P, 3) voxel indices of the cube; the first ``at_once`` are shown together, the others one by one.
        labels: (P,) 1 foreground, 0 background.
        box: (2, 3) lowest and highest corner, or None.
        mask: (1, 4d, 4h, 4w) logits of the last mask, or None.
        at_once: how many points the first step shows.
    """

    points: Tensor
    labels: Tensor
    box: Tensor | None = None
    mask: Tensor | None = None
    at_once: int = 1

    @property
    def steps(self) -> int:
        """How often the decoder is asked: once, and once more for each point that is shown later."""
        return 1 + max(0, len(self.points) - self.at_once)

    def shown(self, step: int) -> int:
        """How many points the decoder sees at ``step``, counted from 0."""
        return min(len(self.points), self.at_once + step)


def decode_clicks(network: nn.Module, embedding: Any, prompts: list[CubePrompt]) -> list[tuple[Tensor, float]]:
    """Logits (1, 4d, 4h, 4w) and predicted IoU for each object.

    Each step shows the decoder all clicks so far and the last step's logits, as in training (FastSAM3D, section 2.1).
    Objects at the same number of prompts share one call; none is padded, so no object changes another's mask.
    """
    masks = [p.mask for p in prompts]
    scores = [0.0] * len(prompts)
    for step in range(max(p.steps for p in prompts)):
        groups = defaultdict(list)
        for i, prompt in enumerate(prompts):
            if step < prompt.steps:
                groups[prompt.shown(step), prompt.box is not None, masks[i] is not None].append(i)
        for (shown, boxed, masked), members in groups.items():
            logits, iou = network.decode(
                embedding,
                torch.stack([prompts[i].points[:shown] for i in members]),
                torch.stack([prompts[i].labels[:shown] for i in members]),
                torch.stack([prompts[i].box for i in members]) if boxed else None,
                torch.stack([masks[i] for i in members]).clamp(-LARGEST_LOGIT, LARGEST_LOGIT) if masked else None,
            )
            for row, i in enumerate(members):
                masks[i], scores[i] = logits[row].float(), float(iou[row, 0])
    return list(zip(masks, scores, strict=True))
