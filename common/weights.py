# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Weights from a file, checked against the network before anything is computed with them."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from monai.handlers import CheckpointLoader
from torch import Tensor, nn

ENDINGS = (".pt", ".pth", ".safetensors")
SHOWN = 5


class WeightsLoader(CheckpointLoader):
    """MONAI's ``CheckpointLoader`` for one network, that says which weights do not fit it."""

    def __init__(self, load_path: str, network: nn.Module, map_location: Any = "cpu") -> None:
        super().__init__(load_path, {"model": network}, map_location=map_location)

    def __call__(self, engine: Engine) -> None:
        """Load, when the engine starts.

        Raises:
            ValueError: missing or unreadable file, or weights of another architecture.
        """
        load_weights(self.load_dict["model"], self.load_path)
        self.logger.info("weights of %s loaded", self.load_path)


def load_weights(network: nn.Module, path: str | Path, state: Mapping[str, Tensor] | None = None) -> None:
    """Load a plain state dict, or one under the key ``model``, every tensor of which has to fit.

    Args:
        network: to load into; one that has learned more since may offer ``completed``, which adds to older weights what
            they do not have.
        path: of the file.
        state: what was read of it already.

    Raises:
        ValueError: missing or unreadable file, weights of another architecture, or NaN or infinite ones.
    """
    state = read_state(path) if state is None else state
    if hasattr(network, "completed"):
        state = network.completed(state)
    expected = network.state_dict()
    missing = [k for k in expected if k not in state]
    unknown = [k for k in state if k not in expected]
    other = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(v.shape)}"
        for k, v in expected.items()
        if k in state and state[k].shape != v.shape
    ]
    problems = counted({"missing": missing, "unknown": unknown, "of another size": other})
    if problems:
        raise ValueError(
            f"{path}: weights of another architecture: {problems}; expected the {len(expected)} tensors of "
            f"network_def: give the configuration that these weights were trained with, or other weights"
        )
    check_finite(state, path)
    network.load_state_dict(state)


def counted(tensors: Mapping[str, Sequence[str]]) -> str:
    """``2 missing (a, b); 7 unknown (c, d, e, ...)`` of what is wrong with tensors by name; empty where nothing is."""
    return "; ".join(
        f"{len(found)} {what} ({', '.join(found[:3])}{', ...' if len(found) > 3 else ''})"
        for what, found in tensors.items()
        if found
    )


def check_finite(tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Raises ValueError where weights are NaN or infinite, of which a network makes masks without a word."""
    broken = [name for name, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if broken:
        raise ValueError(
            f"{path}: {len(broken)} of {len(tensors)} tensors hold NaN or infinite numbers ({', '.join(broken[:3])}"
            f"{', ...' if broken[3:] else ''}); expected the weights of a training that went well"
        )


def read_state(path: str | Path, mapped: bool = False) -> dict[str, Tensor]:
    """A plain state dict, or the one under the key ``model``, onto the CPU.

    Args:
        path: of the file.
        mapped: leave the tensors in the file, which must not be changed meanwhile, until they are used.

    Raises:
        ValueError: missing or unreadable file, or something else than names with tensors.
    """
    if not Path(path).is_file():
        raise ValueError(
            f"{path}: no such file{_beside(Path(path))}; expected the network's weights, a state dict saved with "
            f"torch.save"
        )
    try:
        # Files of very old versions of torch are no zips, and cannot be mapped.
        mmap = mapped and zipfile.is_zipfile(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: cannot be read as weights ({reason[:200]}); expected a plain state dict") from error
    state = state.get("model", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(torch.is_tensor(v) for v in state.values()):
        raise ValueError(
            f"{path}: holds {type(state).__name__} and not names with tensors; expected a plain state dict"
        )
    return state


def _beside(path: Path) -> str:
    """Weights in the folder of a file that is not there, and in the folders beside it: it may have moved."""
    folder = path.parent
    found = sorted(str(f) for e in ENDINGS for f in (*folder.glob(f"*{e}"), *folder.glob(f"*/*{e}")) if f.is_file())
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f", but there is {', '.join(found[:SHOWN])}{more}" if found else ""


def describe_weights(path: str | Path) -> dict[str, str]:
    """The file's name and the first 16 digits of its SHA-256, which tell one version of weights from another."""
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return {"file": Path(path).name, "sha256": digest[:16]}


def weights_key(network: nn.Module) -> tuple[float, ...]:
    """A sum and a norm of every parameter and buffer: a training step or another checkpoint changes them."""
    tensors = [t.detach().float() for t in (*network.parameters(), *network.buffers())]
    sums = [torch.stack((t.sum(), torch.linalg.vector_norm(t))) for t in tensors]
    return tuple(torch.stack(sums).cpu().flatten().tolist()) if sums else ()
