# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Prompts and corrections as SAM is trained with them, and the loss of the answer to each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.inferers import Inferer
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.clicks import error_click
from .objects import FORMS

LARGEST_LOGIT = 10.0
# What a form of prompts leaves out.
UNUSED = {"points": ("boxes",), "box": ("points", "point_labels"), "both": ()}


class Answers(NamedTuple):
    """What the network said to each round of prompts.

    Attributes:
        logits: (R, B, K, h, w).
        iou: (R, B, K), its own estimates.
    """

    logits: Tensor
    iou: Tensor


class ImageAndPrompts:
    """A batch as MONAI's trainers want it: image, target, and what the inferer is given beside the image."""

    def __call__(self, batch: Mapping[str, Tensor], device: torch.device, non_blocking: bool, **kwargs: Any) -> tuple:
        """-> (image, target, (batch,), {})."""
        moved = {k: v.to(device, non_blocking=non_blocking) for k, v in batch.items() if torch.is_tensor(v)}
        return moved["image"], moved["label"], (moved,), {}


class PromptInferer(Inferer):
    """The image encoded once, then some rounds of the decoder: each further one with a click in what is wrong.

    Args:
        rounds: how often the decoder is asked.
        how: where the correcting click goes, see common.clicks.error_click.
    """

    def __init__(self, rounds: int = 2, how: str = "distance") -> None:
        self.rounds, self.how = rounds, how

    def __call__(self, inputs: Tensor, network: nn.Module, batch: Mapping[str, Tensor]) -> Answers:
        """Image (B, 3, H, W) and a batch of SampleObjectsd; all objects are prompted in one way."""
        images, count = batch["label"].shape[:2]
        target = batch["label"].flatten(0, 1)
        prompts = {key: batch[key].flatten(0, 1) for key in ("points", "point_labels", "boxes")}
        # Any image's draw may stand for the batch's.
        form = list(FORMS)[int(batch["form"][0])]
        prompts |= {key: None for key in UNUSED[form]}
        embedding = network.encode(inputs).repeat_interleave(count, dim=0)
        said = []
        for number in range(self.rounds):
            logits, iou = network.decode(embedding, **prompts, paired=True)
            said.append((logits.view(images, count, *logits.shape[2:]), iou.view(images, count)))
            if number + 1 < self.rounds:
                prompts = self._corrected(prompts, target, logits[:, 0].detach())
        return Answers(*(torch.stack(part) for part in zip(*said, strict=True)))

    def _corrected(self, prompts: Mapping[str, Tensor | None], target: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """The prompts with one click more for each object, and with the last mask."""
        rng = np.random.default_rng(torch.randint(2**31, ()).item())
        scale = target.shape[-1] / logits.shape[-1]
        solid = smaller(target, logits.shape[-2:]) > 0.5
        points, signs = [], []
        for wrong, right in zip((logits > 0).cpu().numpy(), solid.cpu().numpy(), strict=True):
            click = error_click(wrong, right, self.how, rng)
            points.append([0, 0] if click is None else [(v + 0.5) * scale - 0.5 for v in click.voxel[::-1]])
            signs.append(-1 if click is None else click.label)
        added = target.new_tensor(points, dtype=torch.float32)[:, None]
        labels = target.new_tensor(signs, dtype=torch.int64)[:, None]
        if prompts["points"] is not None:
            added = torch.cat([prompts["points"], added], dim=1)
            labels = torch.cat([prompts["point_labels"], labels], dim=1)
        masks = logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)[:, None]
        return {"points": added, "point_labels": labels, "boxes": prompts["boxes"], "masks": masks}


def smaller(target: Tensor, size: torch.Size) -> Tensor:
    """(..., H, W) -> (..., *size): the share of each larger pixel that belongs to the target."""
    return F.adaptive_avg_pool2d(target.float(), size)


class PromptLoss(nn.Module):
    """A loss of masks over all rounds, and the squared error of the network's own estimates of the IoU.

    Args:
        mask_loss: of logits and targets (N, 1, h, w).
        iou_weight: of the estimates' part.
    """

    def __init__(self, mask_loss: nn.Module, iou_weight: float = 0.1) -> None:
        super().__init__()
        self.mask_loss, self.iou_weight = mask_loss, iou_weight

    def forward(self, answers: Answers, target: Tensor) -> Tensor:
        """Answers and (B, K, H, W); objects without a pixel do not count."""
        there = (target > 0).flatten(2).any(-1)
        if not there.any():
            return answers.logits.sum() * 0
        shares = smaller(target[there], answers.logits.shape[-2:])[None]
        logits, iou = answers.logits[:, there], answers.iou[:, there]
        mask, solid = logits.detach() > 0, shares > 0.5
        reached = (mask & solid).sum((-2, -1)) / (mask | solid).sum((-2, -1)).clamp(min=1)
        targets = shares.expand_as(logits)
        mask_loss = self.mask_loss(logits.flatten(0, 1)[:, None], targets.flatten(0, 1)[:, None])
        return mask_loss + self.iou_weight * F.mse_loss(iou, reached)


class RoundMasks:
    """Masks of one round and targets, from an engine's output: for MONAI's metrics.

    Args:
        number: of the round, from 0.
    """

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def __call__(self, output: Any) -> tuple[Tensor, Tensor]:
        """A decollated or whole output -> (B, K, h, w) twice."""
        logits, target = output["pred"].logits[self.number], output["label"]
        return (logits > 0).float(), (smaller(target, logits.shape[-2:]) > 0.5).float()
