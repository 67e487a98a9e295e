# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A simulated person: a first prompt, then corrections in what is still wrong (FastSAM3D, section 2.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..common.clicks import FORMS
from ..networks.drawing import LARGEST_LOGIT
from .places import AllAtOnce, OneByOne

# The paper's form: the first two clicks lie in the inner part of the larger error, the others anywhere in the error.
INNER_CLICKS = 2


@dataclass(frozen=True)
class Clicking:
    """How the person behaves.

    Attributes:
        steps: how often the decoder is asked; of a list, one is drawn each time.
        promptless: how many of these steps show the last mask alone: the last one, and others anywhere after the first.
        clicks: ``paper`` (see INNER_CLICKS), ``deepest``, or how often each form of common.clicks is chosen.
        box, scribble, mask: how often the first prompt is one of these in place of a click.
        forget: how often a step does not see the last mask.
        again: how often a step brings no new click: the network sees its own answer to the same clicks, as it does in
            further rounds.
        jitter: standard deviation, in voxels, by which a click misses its voxel.
    """

    steps: int | Sequence[int] = 11
    promptless: int = 2
    clicks: str | Mapping[str, float] = "paper"
    box: float = 0.0
    scribble: float = 0.0
    mask: float = 0.0
    forget: float = 0.0
    again: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        steps = [self.steps] if isinstance(self.steps, int) else list(self.steps)
        if not steps or min(steps) < 1 or not 0 <= self.promptless < max(2, min(steps)):
            raise ValueError(
                f"steps {self.steps}, promptless {self.promptless}: expected more steps than promptless ones"
            )
        known = self.clicks in ("paper", "deepest") if isinstance(self.clicks, str) else set(self.clicks) <= set(FORMS)
        if not known:
            raise ValueError(
                f"clicks {self.clicks!r}: expected paper, deepest, or a share for each of {', '.join(FORMS)}"
            )
        others = self.box + self.scribble + self.mask
        shares = (self.forget, self.again)
        if min(self.box, self.scribble, self.mask, *shares) < 0 or max(others, *shares) > 1 or self.jitter < 0:
            raise ValueError(
                f"{self}: expected shares of box, scribble and mask of at most 1 in all, forget and again from 0 to 1, "
                "and jitter >= 0"
            )


class Interaction:
    """Prompts of N objects, step by step.

    What the objects share (the kind of the first prompt, which steps are promptless) comes from one generator, all
    else from each object's own: an object's clicks do not depend on what else is in the batch.

    Args:
        targets: (N, 1, s, s, s) share of each cell of the logits that belongs to the object.
        factor: voxels of the cube along a cell.
        clicking: how the person behaves.
        steps: how often the decoder will be asked.
        shared: generator of what the objects share.
        own: N generators.
    """

    def __init__(
        self,
        targets: Tensor,
        factor: int,
        clicking: Clicking,
        steps: int,
        shared: np.random.Generator,
        own: Sequence[np.random.Generator],
    ) -> None:
        self.targets = targets
        self.solid = solid(targets)[:, 0]
        self.places = OneByOne() if targets.device.type == "cpu" else AllAtOnce()
        self.factor, self.clicking, self.shared, self.own = factor, clicking, shared, own
        shares = {"box": clicking.box, "scribble": clicking.scribble, "mask": clicking.mask}
        self.form = shared.choice(["click", *shares], p=[1 - sum(shares.values()), *shares.values()])
        self.bare = _promptless_steps(steps, clicking.promptless, shared)
        self.step = 0
        self.points = torch.zeros(len(targets), 0, 3)
        self.labels = torch.zeros(len(targets), 0, dtype=torch.long)
        self.boxes: Tensor | None = None
        self.masks: Tensor | None = None
        if self.form == "box":
            self.boxes = self._loose_boxes()
            return
        self._click(torch.zeros_like(self.solid))
        if self.form == "scribble":
            self._scribble()
        elif self.form == "mask":
            self._more_points(inside=int(shared.integers(0, 3)), around=int(shared.integers(0, 3)))
            self.masks = torch.stack([spoiled_mask(t, r) for t, r in zip(self.targets, own, strict=True)])

    @property
    def prompts(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Points (N, P, 3), their labels (N, P), boxes (N, 2, 3) and last masks (N, 1, s, s, s) of this step."""
        kept = 0 if self.step in self.bare else self.points.shape[1]
        boxes = None if self.step in self.bare else self.boxes
        prompts = self.points[:, :kept], self.labels[:, :kept], boxes, self.masks
        return tuple(None if p is None else p.to(self.targets.device) for p in prompts)

    def correct(self, logits: Tensor) -> None:
        """Go on to the next step: a click in each object's error, and the logits as the last mask.

        Args:
            logits: (N, 1, s, s, s) of this step.
        """
        self.step += 1
        logits = logits.detach().float()
        bare = self.step in self.bare
        again = self.clicking.again > 0 and self.shared.random() < self.clicking.again
        if not bare and not again:
            self._click(logits[:, 0] > 0)
        forgotten = self.shared.random() < self.clicking.forget and not bare and not again
        self.masks = None if forgotten else logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)

    def _click(self, predictions: Tensor) -> None:
        forms = [self._how(rng) for rng in self.own]
        self._add(*self.places.errors(predictions, self.solid, forms, self.own))

    def _how(self, rng: np.random.Generator) -> str:
        clicks = self.clicking.clicks
        if clicks == "paper":
            return "distance" if self.points.shape[1] < INNER_CLICKS else "random"
        return clicks if isinstance(clicks, str) else str(rng.choice(list(clicks), p=list(clicks.values())))

    def _fine(self, cell: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A voxel of a cell: the middle one for the deterministic form, else any."""
        within = self.factor // 2 if self.clicking.clicks == "deepest" else rng.integers(0, self.factor, 3)
        return self.factor * cell + within

    def _missed(self, voxel: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if not self.clicking.jitter:
            return voxel
        largest = self.factor * self.targets.shape[-1] - 1
        return np.clip(np.round(voxel + rng.normal(0, self.clicking.jitter, 3)), 0, largest)

    def _add(self, cells: Tensor, labels: Tensor) -> None:
        voxels = [self._missed(self._fine(c, r), r) for c, r in zip(cells.numpy(), self.own, strict=True)]
        self.points = torch.cat([self.points, torch.tensor(np.array(voxels)).float()[:, None]], dim=1)
        self.labels = torch.cat([self.labels, labels[:, None]], dim=1)

    def _more_points(self, inside: int, around: int) -> None:
        near = (F.max_pool3d(self.targets, 7, 1, 3)[:, 0] > 0) & ~self.solid
        some = near.flatten(1).any(1).view(-1, 1, 1, 1)
        outside = torch.where(some, near, ~self.solid)
        # An object may fill its cube; then there is nothing around it.
        full = ~outside.flatten(1).any(1)
        outside = torch.where(full.view(-1, 1, 1, 1), self.solid, outside)
        for regions, labels in ((self.solid, torch.ones_like(full)),) * inside + ((outside, full),) * around:
            self._add(self.places.within(regions, self.own), labels.long().cpu())

    def _scribble(self) -> None:
        """Points of a stroke, and most times the stroke itself as a mask that leaves all else open."""
        self._more_points(inside=int(self.shared.integers(2, 6)), around=int(self.shared.choice([0, 0, 3, 6])))
        if self.shared.random() < 0.7:
            self.masks = torch.zeros(self.targets.shape)
            for mask, points, labels in zip(self.masks, self.points, self.labels, strict=True):
                x, y, z = (points // self.factor).long().T
                mask[0, x, y, z] = torch.where(labels == 1, LARGEST_LOGIT, -LARGEST_LOGIT)

    def _loose_boxes(self) -> Tensor:
        boxes = []
        for target, rng in zip(self.solid, self.own, strict=True):
            cells = target.nonzero().float().cpu()
            corners = torch.stack([self.factor * cells.amin(0) - 0.5, self.factor * (cells.amax(0) + 1) - 0.5])
            jitter = torch.from_numpy(rng.normal(0, 0.03, (2, 3))).float()
            boxes.append(corners + jitter * (corners[1] - corners[0]))
        return torch.stack(boxes).clamp(-0.5, self.factor * self.targets.shape[-1] - 0.5)


def solid(targets: Tensor) -> Tensor:
    """(N, 1, s, s, s) bool: cells that belong to the object, never none; a thin object fills no cell by half."""
    most = targets.flatten(1).amax(1).view(-1, 1, 1, 1, 1)
    return targets > (most / 2).clamp(max=0.5)


def spoiled_mask(target: Tensor, rng: np.random.Generator) -> Tensor:
    """Logits (1, s, s, s) of a mask as another cube or a hasty hand would give it.

    Args:
        target: (1, s, s, s) in [0, 1].
        rng: random numbers.
    """
    size = target.shape[-1]
    factor = int(rng.integers(1, 5))
    small = F.interpolate(target[None], size=max(2, size // factor), mode="area")
    mask = F.interpolate(small, size=(size,) * 3, mode="trilinear")[0]
    mask = torch.roll(mask, tuple(int(v) for v in rng.integers(-2, 3, 3)), dims=(1, 2, 3))
    if rng.random() < 0.7:
        coarse = torch.from_numpy(rng.normal(0, rng.uniform(0.1, 0.6), (1, 1, 6, 6, 6))).float()
        waves = F.interpolate(coarse.to(mask.device), size=(size,) * 3, mode="trilinear")[0]
        mask = mask + waves * F.max_pool3d(mask, 5, 1, 2)
    logits = (2 * mask - 1) * LARGEST_LOGIT * float(rng.choice([0.3, 1.0]))
    if rng.random() < 0.3:
        # What an earlier, smaller cube did not show counts as background there.
        axis, hidden = int(rng.integers(1, 4)), int(size * rng.uniform(0.1, 0.5))
        logits.narrow(axis, 0 if rng.random() < 0.5 else size - hidden, hidden).fill_(-LARGEST_LOGIT)
    return logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)


def _promptless_steps(steps: int, count: int, rng: np.random.Generator) -> set[int]:
    """The last step and ``count - 1`` between the first and it, as far as there are so many."""
    count = min(count, steps - 1)
    if count < 1:
        return set()
    between = rng.permutation(np.arange(1, steps - 1))[: count - 1]
    return {steps - 1, *(int(s) for s in between)}
