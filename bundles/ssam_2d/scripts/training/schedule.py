# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The learning rate of each epoch: MONAI's cosine, or torch's steps."""

from __future__ import annotations

from typing import Any

from monai.optimizers import WarmupCosineSchedule
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, StepLR

# The share of a training in which the rate comes up: without it, many labels may end in masks of nothing.
WARM_UP = 0.1


def rate_schedule(
    optimizer: Optimizer, epochs: int, step_epochs: int | None = None, step_gamma: float = 0.2
) -> LRScheduler:
    """To be stepped after each epoch: a cosine, or S-SAM's steps.

    Args:
        optimizer: with the rate to begin with.
        epochs: of the whole training.
        step_epochs: the rate is multiplied by ``step_gamma`` after each of so many epochs; None for the cosine.
        step_gamma: see there.

    Raises:
        ValueError: no epoch, or no epoch between two steps.
    """
    if epochs < 1 or (step_epochs is not None and step_epochs < 1):
        raise ValueError(f"max_epochs {epochs}, step_epochs {step_epochs}: expected 1 or more")
    if step_epochs is not None:
        return StepLR(optimizer, step_epochs, step_gamma)
    return CosineRate(optimizer, epochs)


class CosineRate(WarmupCosineSchedule):
    """Half a cosine after a slow start; a training that is given more epochs has the rate of its new length.

    Args:
        optimizer: with the rate to begin with.
        epochs: of the whole training.
    """

    def __init__(self, optimizer: Optimizer, epochs: int) -> None:
        rising = max(round(WARM_UP * epochs), 1)
        self.length = {"warmup_steps": rising - 1, "t_total": epochs, "warmup_multiplier": 1 / rising}
        super().__init__(optimizer, **self.length)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See torch; the optimizer, whose own state holds the rate of the old length, has to be loaded before."""
        super().load_state_dict({**state_dict, **self.length, "length": self.length})
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
