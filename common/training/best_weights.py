# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The weights that scored best so far, in a file that others read."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.nn.parallel import DistributedDataParallel

logger = logging.getLogger(__name__)


class BestWeights:
    """Handler for an evaluator: writes the network's plain state dict whenever its key metric is higher than before.

    MONAI's ``CheckpointSaver`` forgets its best score when a run is resumed, and would replace better weights by
    worse ones; this handler is a part of :class:`RunState`.

    Args:
        path: of the weights, written beside it and then renamed.
        network: whose weights are saved.
    """

    def __init__(self, path: str | Path, network: nn.Module) -> None:
        self.path = Path(path)
        self.network = network.module if isinstance(network, DistributedDataParallel) else network
        self.best: float | None = None

    def attach(self, engine: Engine) -> None:
        """Register for the end of each evaluation."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        name = engine.state.key_metric_name
        score = float(engine.state.metrics[name])
        if self.best is not None and not score > self.best:
            return
        self.best = score
        if engine.state.rank == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            side = self.path.with_suffix(".part")
            torch.save({k: v.detach().cpu() for k, v in self.network.state_dict().items()}, side)
            os.replace(side, self.path)
            logger.info("best %s so far, %.4f: weights written to %s", name, score, self.path)

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up an earlier best score."""
        self.best = state["best"]
