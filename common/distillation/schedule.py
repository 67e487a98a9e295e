# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""How many pairs of layers the student learns from at each moment of the training."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events

UNITS = {"steps": Events.ITERATION_COMPLETED, "epochs": Events.EPOCH_COMPLETED}


class ProgressiveSchedule:
    """k grows from ``start`` to ``pairs``, by one each time that ``every`` steps or epochs are done.

    An ignite handler that counts them, and a part of a training's state. ``start`` equal to ``pairs`` learns from all
    layers at once, as FitNets does (arXiv 1412.6550, here without its hint stage).

    Args:
        pairs: of layers, in all.
        every: steps or epochs between two values of k.
        unit: ``steps`` (batches) or ``epochs``.
        start: the first k.

    Raises:
        ValueError: a number out of its range, or an unknown unit.
    """

    def __init__(self, pairs: int, every: int, unit: str = "steps", start: int = 1) -> None:
        if unit not in UNITS:
            raise ValueError(f"unit {unit!r}: expected {' or '.join(UNITS)}")
        if every < 1 or not 1 <= start <= pairs:
            raise ValueError(
                f"every {every}, start {start}, {pairs} pairs: expected every >= 1 and 1 <= start <= pairs"
            )
        self.pairs, self.every, self.unit, self.start = pairs, every, unit, start
        self.done = 0

    @property
    def k(self) -> int:
        """How many pairs count now."""
        return min(self.pairs, self.start + self.done // self.every)

    def advance(self) -> None:
        """One more step or epoch is done."""
        self.done += 1

    def attach(self, engine: Engine) -> None:
        """Register for the end of each step or epoch."""
        engine.add_event_handler(UNITS[self.unit], self.advance)

    def state_dict(self) -> dict[str, Any]:
        """What was counted, and in what."""
        return {"done": self.done, "unit": self.unit}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting.

        Raises:
            ValueError: a state that was counted in another unit.
        """
        if state["unit"] != self.unit:
            raise ValueError(f"the schedule's state counts {state['unit']}, this one {self.unit}: give the same k_unit")
        self.done = state["done"]
