# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The running average of the weights, which scores better than the weights of a single step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class AverageWeights:
    """Handler that follows a network with the exponential average of its weights, a part of :class:`RunState`.

    The average after step n keeps min(keep, (1 + n) / (10 + n)) of what it was, so that it does not hang on to the
    weights of the start in a short training.

    Args:
        network: that is trained.
        keep: share of the average that a step keeps, below 1; None for no average: ``network`` is then the network.

    Attributes:
        network: with the averaged weights; it is validated, and its weights are what a training is for.
    """

    def __init__(self, network: nn.Module, keep: float | None = 0.998) -> None:
        if keep is not None and not 0 < keep < 1:
            raise ValueError(f"average {keep}: expected a share between 0 and 1, such as 0.998, or null for no average")
        self.source = network
        self.model: AveragedModel | None = None
        if keep is not None:
            self.keep = keep
            self.model = AveragedModel(network, multi_avg_fn=self._towards).requires_grad_(False)
        self.network: nn.Module = network if self.model is None else self.model.module

    def attach(self, engine: Engine) -> None:
        """Register for the steps of the optimizer."""
        if self.model is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        within = (engine.state.iteration - 1) % engine.state.epoch_length + 1
        steps = getattr(engine, "accumulation_steps", 1)
        if within % steps == 0 or within == engine.state.epoch_length:
            self.model.update_parameters(self.source)

    def _towards(self, averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor) -> None:
        # torch counts the averages before this one.
        step = int(count) + 1
        get_ema_multi_avg_fn(min(self.keep, (1 + step) / (10 + step)))(averaged, current, count)

    def state_dict(self) -> dict[str, Any]:
        """The average, empty where there is none."""
        return {} if self.model is None else self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up an earlier average."""
        if self.model is not None:
            self.model.load_state_dict(state)
