# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The network with a simulated person who clicks, and the loss of the masks after each click."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn
from torch.nn import functional as F

from ..inference.decoding import corrected
from ..networks.embedding import Embedding
from .clicking import Clicking, Interaction, solid

# Shares of a cube that objects of the first and of the last candidate have, as powers of ten, and how much better the
# loss of a candidate has to be that is for objects ten times as large or small.
SIZES, PULL = (-3.0, -1.0), 0.3
# Beside the squared error of the candidates' predicted IoU: how much it counts which is the highest, and how sharply.
CHOICE, SHARPNESS = 0.15, 10.0


class InteractiveNetwork(nn.Module):
    """Cubes and objects in, what the network answers to a simulated person out: what a trainer calls in one piece.

    Args:
        network: offers ``encode`` and ``decode``, see :class:`..networks.fastsam3d.FastSAM3D`.
        clicking: how the person behaves.
        rehearsed: how many steps lead to those of ``clicking``, which alone are learned from and answered; of a list,
            one is drawn each time.
        rounds, one_way: how the decoder is asked, see :func:`..inference.decoding.decode_clicks`.
        candidates: teach the network to offer candidates for a first click. What has learned to goes on learning it
            in any case.
    """

    def __init__(
        self,
        network: nn.Module,
        clicking: Clicking,
        rehearsed: int | Sequence[int] = 0,
        rounds: int = 1,
        one_way: bool = False,
        candidates: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.candidates = candidates
        self.clicking = clicking
        self.rehearsed = [rehearsed] if isinstance(rehearsed, int) else list(rehearsed)
        if not self.rehearsed or min(self.rehearsed) < 0:
            raise ValueError(f"rehearsed {rehearsed}: expected numbers of steps, from 0 on")
        self.rounds = rounds
        self.one_way = one_way

    def forward(self, image: Tensor, label: Tensor, seed: Tensor) -> dict[str, Tensor]:
        """N = B K objects, T steps.

        Args:
            image: (B, 1, S, S, S) normalised cubes.
            label: (B, K, 1, S, S, S), 1 in each of K objects.
            seed: (B,) of the random numbers of each cube's objects; what these share comes from numpy's generator.

        Returns:
            ``logits`` (T, N, 1, s, s, s), predicted ``iou`` (T, N), the ``target`` (N, 1, s, s, s) as shares of
            the logits' cells, and the ``dice`` (T, N) that was reached. Where candidates were offered in one of the T
            steps also ``candidates``, their logits (N, K, s, s, s), ``scores`` (N, K), their predicted IoU, and
            ``best`` (N,), which of them is in ``logits``.
        """
        if self.candidates and self.training:
            # Loaded weights may not know of it.
            self.network.mask_decoder.candidates.learned.fill_(1)
        shared, own = chance(seed, label.shape[1])
        options = [self.clicking.steps] if isinstance(self.clicking.steps, int) else list(self.clicking.steps)
        rehearsed = int(shared.choice(self.rehearsed))
        steps = int(shared.choice(options)) + rehearsed
        return interact(
            self.network, image, label, self.clicking, steps, shared, own, rehearsed, self.rounds, self.one_way
        )


def chance(seed: Tensor, count: int) -> tuple[np.random.Generator, list[np.random.Generator]]:
    """A generator for what all objects share, seeded by numpy's global one, and one for each of B * count objects."""
    shared = np.random.default_rng(np.random.randint(2**31))
    return shared, [rng for s in seed.tolist() for rng in np.random.default_rng(int(s)).spawn(count)]


def interact(
    network: nn.Module,
    image: Tensor,
    label: Tensor,
    clicking: Clicking,
    steps: int,
    shared: np.random.Generator,
    own: Sequence[np.random.Generator],
    rehearsed: int = 0,
    rounds: int = 1,
    one_way: bool = False,
) -> dict[str, Tensor]:
    """See :class:`InteractiveNetwork` for what goes in and out, :class:`.clicking.Interaction` for the generators.

    The first ``rehearsed`` of the steps only lead to the others: they have no gradient and are not among the answers.
    Late clicks, on masks that the network made itself, are thus learned at the cost of a few (as in RITM, arXiv
    2102.06583).
    """
    embedding = each_object(network.encode(image), label.shape[1])
    cells = 4 * embedding.features.shape[-1]
    target = F.adaptive_avg_pool3d(label.flatten(0, 1).float(), cells)
    state = Interaction(target, image.shape[-1] // cells, clicking, steps, shared, own)
    logits, ious, last = [], [], None
    offered: dict[str, Tensor] = {}

    def best(masks: Tensor, scores: Tensor) -> Tensor:
        offered.update(candidates=masks.float(), scores=scores.float(), best=best_candidate(masks.detach(), target))
        return offered["best"]

    for step in range(steps):
        learned = step >= rehearsed
        if step == rehearsed:
            # Weights that were cast for a rehearsed step, without a gradient, must not be taken for the others.
            torch.clear_autocast_cache()
        with torch.set_grad_enabled(learned and torch.is_grad_enabled()):
            # What a learned step goes on from is right; what only leads to one is what inference would show.
            choose = {"choose": best} if learned and torch.is_grad_enabled() and not step else {}
            answer, iou = network.decode(embedding, *state.prompts, rounds=1 if step else rounds, **choose)
            if one_way and step and state.labels.shape[1]:
                answer = corrected(answer, last, state.labels[:, -1].to(answer.device))
        last = answer
        if learned:
            logits.append(answer.float())
            ious.append(iou[:, 0].float())
        if step + 1 < steps:
            state.correct(answer)
    dice = torch.stack([overlaps(x.detach(), target)[0] for x in logits])
    return {"logits": torch.stack(logits), "iou": torch.stack(ious), "target": target, "dice": dice, **offered}


@torch.no_grad()
def best_candidate(candidates: Tensor, target: Tensor) -> Tensor:
    """Which candidate each object is learned by: the best one (SAM), or nearly, of the size that fits its place.

    Without a size to each place the first to be a little better would win all objects, and the others learn nothing.

    Args:
        candidates: (N, K, s, s, s) logits.
        target: (N, 1, s, s, s).

    Returns:
        (N,) places.
    """
    masks = candidates.float()
    entropy = F.binary_cross_entropy_with_logits(masks, target.expand_as(masks), reduction="none").flatten(2).mean(2)
    masks, wanted = masks.sigmoid().flatten(2), target.flatten(2)
    dice = 2 * (masks * wanted).sum(2) / (masks.sum(2) + wanted.sum(2)).clamp(min=1e-6)
    sizes = torch.logspace(*SIZES, masks.shape[1], device=masks.device).log10()
    share = wanted.mean(2).clamp(min=1e-6).log10()
    return (entropy + 1 - dice + PULL * (share - sizes).abs()).argmin(1)


def each_object(embedding: Embedding, count: int) -> Embedding:
    """The embedding of B images -> that of B * count objects, one a row, as the decoder wants it."""
    if len(embedding.features) == 1:
        return embedding
    repeat = lambda x: x.repeat_interleave(count, 0)  # noqa: E731
    return embedding._replace(
        features=repeat(embedding.features),
        skips=tuple(map(repeat, embedding.skips)),
        detail=None if embedding.detail is None else repeat(embedding.detail),
    )


def overlaps(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Dice and IoU (N,) of logits > 0 with the solid cells of targets, both (N, 1, s, s, s)."""
    mask, target = (logits > 0).flatten(1), solid(targets).flatten(1)
    both, total = (mask & target).sum(1), mask.sum(1) + target.sum(1)
    return 2 * both / total.clamp(min=1), both / (total - both).clamp(min=1)


class InteractiveLoss(nn.Module):
    """Dice and cross entropy, and the error of the predicted IoU, as the mean over steps and objects.

    Of candidates the best one alone, as it is offered and as it is answered, and the predicted IoU of all.

    Args:
        iou_weight: of the squared error of the predicted IoU.
        choice_weight: of that of the candidates, by which one is chosen.
    """

    def __init__(self, iou_weight: float = 0.1, choice_weight: float = 0.5) -> None:
        super().__init__()
        self.segmentation = DiceCELoss(sigmoid=True)
        self.iou_weight = iou_weight
        self.choice_weight = choice_weight

    def forward(self, answers: dict[str, Tensor], label: Tensor | None = None) -> Tensor:
        """``answers`` of :class:`InteractiveNetwork` -> (); the labels are in there already."""
        target, loss = answers["target"], 0.0
        for logits, iou in zip(answers["logits"], answers["iou"], strict=True):
            reached = overlaps(logits.detach(), target)[1]
            loss = loss + self.segmentation(logits, target) + self.iou_weight * F.mse_loss(iou, reached)
        if "candidates" in answers:
            loss = loss + self._of_candidates(answers)
        return loss / len(answers["logits"])

    def _of_candidates(self, answers: dict[str, Tensor]) -> Tensor:
        candidates, scores, target = answers["candidates"], answers["scores"], answers["target"]
        each, best = torch.arange(len(target), device=target.device), answers["best"]
        reached = torch.stack([overlaps(x.detach()[:, None], target)[1] for x in candidates.unbind(1)], dim=1)
        reached[each, best] = overlaps(answers["logits"][0].detach(), target)[1]
        shown = self.segmentation(candidates[each, best][:, None], target)
        chosen = F.cross_entropy(SHARPNESS * scores, reached.argmax(1))
        return shown + self.choice_weight * (F.mse_loss(scores, reached) + CHOICE * chosen)
