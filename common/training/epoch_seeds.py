# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Random numbers of a training that follow from its seed, the epoch and the iteration alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd

from .seeded_dataset import SeededDataset


class EpochSeeds:
    """Handler that seeds python, numpy, torch and MONAI's random transforms anew for each epoch and iteration.

    The loader's order and the transforms' random numbers follow from (seed, epoch), what the network draws from (seed,
    iteration): a run that starts in the middle does not depend on what was drawn before. Such a run first draws the
    batches of its epoch that are done already, without computing on them. Under ``torch.distributed`` all processes
    draw the same numbers; a ``DistributedSampler`` and :class:`SeededDataset` give each its own images.

    Loaders with ``persistent_workers`` keep the random numbers of their first epoch and are refused.

    Args:
        seed: of everything.
    """

    def __init__(self, seed: int = 0) -> None:
        if not 0 <= int(seed) < 2**32:
            raise ValueError(f"seed {seed}: expected a whole number from 0 to {2**32 - 1}")
        self.seed = int(seed)
        self._loader: Any = None

    def attach(self, engine: Engine) -> None:
        """Register for the engine's start, its epochs and its batches."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        # Before the batch is fetched, as a loader without workers draws from the same generators.
        engine.add_event_handler(Events.GET_BATCH_STARTED, lambda e: self._seed(1, e.state.iteration + 1))

    def _start(self, engine: Engine) -> None:
        self._loader = engine.state.dataloader
        if getattr(self._loader, "persistent_workers", False):
            raise ValueError("a loader with persistent_workers=True cannot be seeded anew: expected False")

    def _start_epoch(self, engine: Engine) -> None:
        seed = self._seed(0, engine.state.epoch)
        dataset = getattr(self._loader, "dataset", None)
        if isinstance(dataset, SeededDataset):
            dataset.start_epoch(seed)
        else:
            set_rnd(dataset, seed)
        # MONAI tells epochs to a DistributedSampler alone.
        batches = getattr(self._loader, "batch_sampler", None)
        if hasattr(batches, "set_epoch"):
            batches.set_epoch(engine.state.epoch)
        done = engine.state.iteration % engine.state.epoch_length
        if done:
            batches = iter(self._loader)
            for iteration in range(engine.state.iteration - done, engine.state.iteration):
                self._seed(1, iteration + 1)
                next(batches)
            # The engine makes its iterator of this, and counts the done iterations itself.
            engine.state.dataloader = batches
        else:
            engine.set_data(self._loader)

    def _seed(self, *place: int) -> int:
        seed = int(np.random.SeedSequence((self.seed, *place)).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        return seed
