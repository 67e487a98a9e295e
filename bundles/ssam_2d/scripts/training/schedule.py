# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""How the learning rate falls while training."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, StepLR

# The share of a training in which the rate comes up.
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


def share_of_rate(epoch: int, epochs: int) -> float:
    """Of the full rate in an epoch, counted from 0: up to it in WARM_UP of all epochs, down along half a cosine."""
    return min((epoch + 1) / max(WARM_UP * epochs, 1), 1) * (1 + math.cos(math.pi * min(epoch / epochs, 1))) / 2


class CosineRate(LambdaLR):
    """The rate of :func:`share_of_rate`: large ones find their way in few steps, and settle as they fall.

    Without a slow start, training by many labels may end in masks of nothing. A training that is gone on with for more
    epochs than were planned has the rate of its new length.

    Args:
        optimizer: with the rate to begin with.
        epochs: of the whole training.
    """

    def __init__(self, optimizer: Optimizer, epochs: int) -> None:
        super().__init__(optimizer, lambda epoch: share_of_rate(epoch, epochs))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See torch; the optimizer, whose own state holds the rate of the old length, has to be loaded before."""
        super().load_state_dict(state_dict)
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
