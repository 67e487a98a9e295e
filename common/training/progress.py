# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The share of a training that is done, by epochs or by the clock, and the learning rate that follows from it."""

from __future__ import annotations

from time import monotonic
from typing import Any

from ignite.engine import Engine, Events
from torch.optim.lr_scheduler import LRScheduler

# Steps of a learning rate's schedule from the start to the end of a training: give them as its ``t_total``.
STEPS = 1000


class Progress:
    """Handler that moves a schedule with the training, and ends the training when its minutes are over.

    The share that lies behind is that of the epochs or, where a limit in minutes is given and nearer, of the minutes:
    the schedule then reaches its end with the training however fast the machine is. Minutes of earlier slices count.
    A part of :class:`RunState`. A training that is ended by its minutes ends an epoch early: what belongs to the end
    of an epoch, such as validation, is done.

    Args:
        lr_scheduler: of ``STEPS`` steps, such as ``monai.optimizers.WarmupCosineSchedule``.
        minutes: of training in all; None for no limit.

    Attributes:
        seconds: of training so far.
    """

    def __init__(self, lr_scheduler: LRScheduler, minutes: float | None = None) -> None:
        if minutes is not None and not minutes > 0:
            raise ValueError(f"max_minutes {minutes}: expected a positive number, or null for no limit")
        self.lr_scheduler = lr_scheduler
        self.minutes = minutes
        self.seconds = 0.0
        self._clock = 0.0

    def attach(self, engine: Engine) -> None:
        """Register for the start, the epochs and the iterations."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._perhaps_stop)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        now = monotonic()
        self.seconds, self._clock = self.seconds + now - self._clock, now
        # A schedule takes one step at a time: it is put before the place where it has to be.
        self.lr_scheduler.last_epoch = STEPS * self.share(engine) - 1
        self.lr_scheduler.step()
        if self._is_over():
            engine.terminate_epoch()

    def share(self, engine: Engine) -> float:
        """Of the training that lies behind, 0 to 1."""
        epochs = engine.state.iteration / (engine.state.max_epochs * engine.state.epoch_length)
        minutes = self.seconds / (60 * self.minutes) if self.minutes is not None else 0.0
        return min(1.0, max(epochs, minutes))

    def _start(self, engine: Engine) -> None:
        self._clock = monotonic()

    def _perhaps_stop(self, engine: Engine) -> None:
        # At the start of the next epoch, so that a resumed run stops as well.
        if self._is_over():
            engine.terminate()

    def _is_over(self) -> bool:
        return self.minutes is not None and self.seconds >= 60 * self.minutes

    def state_dict(self) -> dict[str, Any]:
        """The time so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the time of earlier slices."""
        self.seconds = state["seconds"]
