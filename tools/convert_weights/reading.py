# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Checkpoints read without running any code of theirs: tensors, plain values, and a short list of named types."""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

# What published checkpoints hold beside tensors and plain values: the trainer's command line, and numbers of numpy.
# numpy before 2.0 wrote the function that makes a number under its old name.
SAFE_TYPES = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.float16, np.int64, np.int32, np.bool_)),
    (np._core.multiarray.scalar, "numpy._core.multiarray.scalar"),
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),
]

# Where trainers put the network's weights in a checkpoint; the first that is there counts.
WRAPPERS = ("model_state_dict", "state_dict", "model")
# What they put beside it, and why it is not needed here.
BESIDE = {
    "epoch": "training state",
    "optimizer_state_dict": "training state",
    "optimizer": "training state",
    "lr_scheduler_state_dict": "training state",
    "losses": "training history",
    "dices": "training history",
    "best_loss": "training history",
    "best_dice": "training history",
    "loss": "training history",
    "args": "the trainer's command line",
    "used_datas": "the trainer's list of folders",
}
# DistributedDataParallel and DataParallel put it before every name.
PARALLEL = "module."


@dataclass
class Checkpoint:
    """A file's weights.

    Attributes:
        path: of the file.
        state: the tensors by name, without a wrapper's prefix.
        beside: what else the file holds, with the reason why it is not used.
        notes: what was unwrapped.
    """

    path: Path
    state: dict[str, Tensor]
    beside: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """The weights in a ``.pth`` or ``.pt`` file.

    Raises:
        ValueError: no such file, a broken one, one that would run code when it is read, or one without weights.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected a checkpoint saved with torch.save")
    try:
        with torch.serialization.safe_globals(SAFE_TYPES), warnings.catch_warnings():
            # An unusual pickle protocol is worth no warning: what cannot be read is an error.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:
        raise ValueError(f"{path}: {reason(problem)}") from problem
    return unwrap(path, content)


def reason(problem: Exception) -> str:
    """Why a file could not be read, in a sentence; without torch's advice to read it unchecked."""
    text = str(problem)
    refused = re.search(r"GLOBAL (\S+)|Can only .*", text)
    if refused:
        what = f"it asks for {refused[1]}" if refused[1] else refused[0][:200]
        return (
            f"refused, because reading it could run code ({what}); expected tensors and plain values alone: have its "
            "author save the state dict"
        )
    if text.startswith("Weights only load failed"):
        return (
            "cannot be read as tensors and plain values; expected a file saved with torch.save: is it a web page, or "
            "damaged?"
        )
    first = text.splitlines()[0] if text else type(problem).__name__
    return f"cannot be read ({first[:200]}); expected a whole file saved with torch.save: download it again"


def unwrap(path: Path, content: Any) -> Checkpoint:
    """The weights out of what a trainer saved."""
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path}: holds {type(content).__name__} and not names with tensors; expected a state dict")
    state, beside, notes = content, {}, []
    wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
    if wrapper:
        state = content[wrapper]
        notes.append(f"weights found under {wrapper}")
        others = [key for key in content if key != wrapper]
        unknown = [key for key in others if key not in BESIDE]
        if unknown:
            raise ValueError(
                f"{path}: unknown entries beside {wrapper}: {', '.join(map(str, unknown[:5]))}; known are "
                f"{', '.join(BESIDE)}: save the state dict under {wrapper} alone if they are not needed"
            )
        beside = {key: BESIDE[key] for key in others}
    values = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if values or not state:
        raise ValueError(
            f"{path}: {', '.join(map(str, values[:5])) or 'nothing'} in place of tensors; expected a state dict, "
            f"plain or under {', '.join(WRAPPERS)}"
        )
    if all(key.startswith(PARALLEL) for key in state):
        state = {key.removeprefix(PARALLEL): value for key, value in state.items()}
        notes.append(f"prefix {PARALLEL} of parallel training removed")
    return Checkpoint(path, dict(state), beside, notes)
