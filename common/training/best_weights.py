# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The weights with the best score so far, written to a file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..files import whole_file

logger = logging.getLogger(__name__)


class BestWeights:
    """Handler for an evaluator: writes the network's plain state dict whenever its key metric is higher than before.

    Attached to the trainer as well it stops the training early, where wanted, and writes the last weights where nothing
    was ever evaluated. MONAI's ``CheckpointSaver`` and ``EarlyStopHandler`` forget their scores when a run is resumed,
    so that worse weights would replace better ones; this handler is a part of :class:`RunState`.

    Args:
        path: of the weights, written beside it and then renamed.
        network: whose weights are saved.
        patience: evaluations without a higher score after which the training ends; None for never.
    """

    def __init__(self, path: str | Path, network: nn.Module, patience: int | None = None) -> None:
        if patience is not None and patience < 1:
            raise ValueError(f"patience {patience}: expected a number of evaluations, or null to never stop early")
        self.path = Path(path)
        self.network = network.module if isinstance(network, DistributedDataParallel) else network
        self.patience = patience
        self.best: float | None = None
        self.waited = 0

    def attach(self, engine: Engine) -> None:
        """Register for the end of each evaluation, or with the training."""
        if isinstance(engine, Evaluator):
            engine.add_event_handler(Events.COMPLETED, self)
        else:
            engine.add_event_handler(Events.EPOCH_STARTED, self._perhaps_stop)
            engine.add_event_handler(Events.COMPLETED, self._write_last)

    def __call__(self, engine: Engine) -> None:
        name = engine.state.key_metric_name
        score = float(engine.state.metrics[name])
        if self.best is not None and not score > self.best:
            self.waited += 1
            return
        self.best, self.waited = score, 0
        self._write(engine, f"best {name} so far, {score:.4f}")

    def _perhaps_stop(self, engine: Engine) -> None:
        # At the start of the next epoch, so that a resumed run stops as well.
        if self.patience is not None and self.waited >= self.patience:
            logger.info("no higher score in %d evaluations: the training ends", self.waited)
            engine.terminate()

    def _write_last(self, engine: Engine) -> None:
        if self.best is None:
            self._write(engine, "nothing was evaluated: the last weights count as the best")

    def _write(self, engine: Engine, why: str) -> None:
        if engine.state.rank == 0:
            with whole_file(self.path) as side:
                torch.save({k: v.detach().cpu() for k, v in self.network.state_dict().items()}, side)
            logger.info("%s: weights written to %s", why, self.path)

    def state_dict(self) -> dict[str, Any]:
        """The best score so far, and the evaluations since."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up an earlier score."""
        self.best, self.waited = state["best"], state["waited"]
