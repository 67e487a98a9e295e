# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The state of a training in one file, from which it resumes after it was stopped or killed."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..files import check_writable, remove_unfinished, whole_file
from .data_fingerprint import data_differences, data_fingerprint

logger = logging.getLogger(__name__)


class RunState:
    """Handler that writes ``folder/state.pt`` after each epoch, and in between if wanted, and resumes from it.

    The file is written beside its place and then renamed: killed at any moment, the last whole state is there. With
    :class:`EpochSeeds` a resumed run on a CPU ends in the very weights of one that was never stopped. Attach it after
    all handlers whose work belongs to an epoch (schedules, validation, best weights). Under ``torch.distributed`` the
    first process writes and all read.

    Args:
        folder: of the run; made where it does not exist.
        parts: what changes while training, by name: each offers ``state_dict`` and ``load_state_dict``. The place in
            the training, and the trainer's gradient scaler, are kept as well.
        settings: what the run was started with, fit for JSON; a state of other settings is refused.
        resume: go on from the folder's state; without one the training starts anew, and says so.
        every: iterations after which a state is written within an epoch too; 0 for epochs alone.

    Raises:
        ValueError: a folder that cannot be written to; a state in it and ``resume`` is false; a state of other
            settings; one that cannot be read.
    """

    def __init__(
        self,
        folder: str | Path,
        parts: Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
        resume: bool = False,
        every: int = 0,
    ) -> None:
        self.path = Path(folder) / "state.pt"
        self.parts = {name: _unwrapped(part) for name, part in parts.items()}
        self.settings = json.loads(json.dumps(dict(settings or {})))
        self.resume = resume
        if every < 0:
            raise ValueError(f"every is {every}: expected a number of iterations, or 0 for the ends of epochs alone")
        self.every = every
        self.data: dict[str, list[str]] | None = None
        self.check()

    def check(self) -> None:
        """See the class, "Raises": nothing is loaded yet."""
        check_writable(self.path.parent)
        if not self.path.exists():
            return
        if not self.resume:
            raise ValueError(
                f"{self.path} holds the state of an earlier run: give --resume true to go on with it, or another "
                f"output_dir to start anew"
            )
        remove_unfinished(self.path.parent)
        state = self._read()
        differing = differences(state["settings"], self.settings)
        if differing:
            raise ValueError(
                f"{self.path} belongs to a run of another configuration: {'; '.join(differing)}. Give the settings "
                f"that it was started with, or another output_dir to start anew"
            )
        for name, part in self.parts.items():
            if isinstance(part, nn.Module) and name in state["parts"]:
                _check_tensors(self.path, name, state["parts"][name], part.state_dict())
        other = sorted(set(state["parts"]) ^ set(self.parts))
        if other:
            raise ValueError(
                f"{self.path} and this configuration do not both have {', '.join(other)}. Give the settings that it "
                f"was started with, or another output_dir to start anew"
            )

    def check_data(self, **sections: Sequence[Mapping[str, Any]]) -> None:
        """Keep what is trained on with the state, and refuse to go on with anything else.

        A function of its own, because :meth:`check` comes before any data is read.

        Args:
            sections: see :func:`.data_fingerprint.data_fingerprint`.

        Raises:
            ValueError: the state belongs to a run on other images, masks, names, or another order of them.
        """
        self.data = data_fingerprint(**sections)
        before = self._read().get("data") if self.resume and self.path.exists() else None
        differing = data_differences(before, self.data) if before is not None else []
        if differing:
            raise ValueError(
                f"{self.path} belongs to a run on other data: {'; '.join(differing)}. Give the data that it was "
                f"started with, or another output_dir to start anew"
            )

    def attach(self, engine: Engine) -> None:
        """Register for the engine's start, its epochs and, where wanted, its iterations.

        At the start a ValueError says where states are wanted between two steps of the optimizer, or do not fit.
        """
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        if self.every:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._save_within)

    def save(self, engine: Engine) -> None:
        """Write the state; all of it or none of it."""
        if not dist.is_available() or not dist.is_initialized() or dist.get_rank() == 0:
            parts = {name: part.state_dict() for name, part in self.parts.items()}
            scaler = getattr(engine, "scaler", None)
            state = {
                "settings": self.settings,
                "data": self.data,
                "parts": parts,
                "scaler": scaler.state_dict() if scaler else None,
                "iteration": engine.state.iteration,
                "epoch_length": engine.state.epoch_length,
            }
            with whole_file(self.path) as side:
                torch.save(state, side)

    def _save_within(self, engine: Engine) -> None:
        # What follows the last iteration of an epoch belongs to it: the state is written after that.
        within = engine.state.iteration % engine.state.epoch_length
        if within and within % self.every == 0:
            self.save(engine)

    def _start(self, engine: Engine) -> None:
        steps = getattr(engine, "accumulation_steps", 1)
        if self.every % steps:
            raise ValueError(f"every is {self.every}: expected a multiple of accumulation_steps, {steps}")
        if not self.resume:
            return
        if not self.path.exists():
            logger.warning("%s is not there: nothing to resume, the training starts anew", self.path)
            return
        state = self._read()
        if state["epoch_length"] != engine.state.epoch_length:
            raise ValueError(
                f"{self.path} belongs to a run with {state['epoch_length']} iterations in an epoch, this one has "
                f"{engine.state.epoch_length}: give the data that it was started with, or another output_dir"
            )
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        if state["scaler"] and getattr(engine, "scaler", None):
            engine.scaler.load_state_dict(state["scaler"])
        engine.state.iteration = state["iteration"]
        engine.state.epoch = state["iteration"] // state["epoch_length"]
        logger.info("resumed from %s after %d iterations", self.path, engine.state.iteration)

    def _read(self) -> dict[str, Any]:
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if not {"settings", "parts", "scaler", "iteration", "epoch_length"} <= set(state):
                raise ValueError("not written by this program")
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"{self.path}: cannot be read as the state of a training ({reason[:200]}); give another output_dir"
            ) from error
        return state


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two JSON values, as ``name: was ..., is ...``; nested names are joined by ``#``."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(k for k in now if k not in before)]
        parts = [differences(before.get(k), now.get(k), f"{name}#{k}".lstrip("#")) for k in keys]
        return [text for part in parts for text in part]
    return [] if before == now else [f"{name}: was {json.dumps(before)}, is {json.dumps(now)}"]


def _check_tensors(path: Path, name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    shapes = [{k: list(v.shape) for k, v in state.items() if torch.is_tensor(v)} for state in (before, now)]
    differing = differences(*shapes)
    if differing:
        raise ValueError(
            f"{path} belongs to a run of another configuration: {len(differing)} tensors of {name} differ, first "
            f"{differing[0]}. Give the configuration that it was started with, or another output_dir to start anew"
        )


def _unwrapped(part: Any) -> Any:
    return part.module if isinstance(part, DistributedDataParallel) else part
