# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Which weights are trained, and a limit to the gradient of a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import nn


class Freeze:
    """Handler that keeps parts of a network as they are, for good or for the first epochs.

    Args:
        network: whose parts are frozen.
        parts: their names, such as ``image_encoder`` or ``mask_decoder.transformer``.
        epochs: how long; None for always.

    Raises:
        ValueError: a part that the network does not have.
    """

    def __init__(self, network: nn.Module, parts: Sequence[str] = (), epochs: int | None = None) -> None:
        known = dict(network.named_modules())
        unknown = [p for p in parts if p not in known]
        if unknown:
            names = [name for name, _ in network.named_children()]
            raise ValueError(
                f"parts {unknown}: the network has {', '.join(names)}; expected some of these, or of their parts"
            )
        self.frozen = [p for part in parts for p in known[part].parameters()]
        self.epochs = epochs
        # At once, for whatever looks at the network before the training starts.
        self._learn(epochs == 0)

    def attach(self, engine: Engine) -> None:
        """Register for the start of each epoch."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        self._learn(self.epochs is not None and engine.state.epoch > self.epochs)

    def _learn(self, learn: bool) -> None:
        for parameter in self.frozen:
            parameter.requires_grad_(learn)


class ClipGradients:
    """Handler that bounds the norm of the gradients before a step, and leaves out a step that is not finite.

    Args:
        network: whose gradients.
        largest: norm.
    """

    def __init__(self, network: nn.Module, largest: float = 1.0) -> None:
        self.network = network
        self.largest = largest

    def attach(self, engine: Engine) -> None:
        """Register for the end of each backward pass."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        within = (engine.state.iteration - 1) % engine.state.epoch_length + 1
        if within % engine.accumulation_steps and within != engine.state.epoch_length:
            return
        if engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.largest)
        # A step that went wrong numerically must not spoil the weights. A scaler sees to that by itself.
        if engine.scaler is None and not bool(torch.isfinite(norm)):
            engine.optimizer.zero_grad(set_to_none=True)
