# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What fine-tuning starts from: SAM's and MedSAM's checkpoints as published, and this project's own base."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .common.weights import read_state
from .networks.positions import resize_absolute, resize_relative

logger = logging.getLogger(__name__)
PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
TEXT = "text_affine."
TEXT_LAYER = f"{TEXT}linear.weight"
LABELS = "label_features"
BROKEN = (pickle.UnpicklingError, SafetensorError)


@dataclass
class StartReport:
    """What became of each tensor of a checkpoint and of the network.

    Attributes:
        loaded: names taken as they are.
        resized: names of positions that were brought to the network's size, with the shapes before and after.
        ignored: names of the checkpoint that are of no use here: the features of its labels.
        untouched: names of the network that the checkpoint does not have: the text layer, where it is SAM's own.
    """

    loaded: list[str] = field(default_factory=list)
    resized: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    untouched: list[str] = field(default_factory=list)


def load_start(network: nn.Module, path: str | Path) -> StartReport:
    """SAM's three parts of a checkpoint into ``network``, positions resized; its text layer too where it has one.

    Args:
        network: see :class:`.networks.ssam.SSAM`; its labels stay as they are.
        path: a state dict, plain or under ``model``, with ``image_encoder.*``, ``prompt_encoder.*`` and
            ``mask_decoder.*``.

    Raises:
        ValueError: no such file, no SAM, or a SAM of another size; then the network is as it was.
    """
    state = read_state(path)
    expected = {k: v for k, v in network.state_dict().items() if k != LABELS}
    if not all(any(key.startswith(part) for key in state) for part in PARTS):
        raise ValueError(
            f"{path}: no SAM checkpoint: its {len(state)} tensors are {', '.join(list(state)[:3])}, ...; expected "
            f"names that start with {', '.join(PARTS)}"
        )
    report, fitting = StartReport(), {}
    with_text = any(key.startswith(TEXT) for key in state)
    problems = [f"{key} is not known" for key in state if key not in expected and key != LABELS]
    for key, own in expected.items():
        if key not in state:
            if key.startswith(TEXT) and not with_text:
                report.untouched.append(key)
            else:
                problems.append(f"{key} is missing")
            continue
        given = resized(key, state[key], own)
        if given.shape != own.shape:
            problems.append(f"{key} is {tuple(given.shape)}, expected {tuple(own.shape)}")
        elif given is state[key]:
            report.loaded.append(key)
        else:
            report.resized[key] = tuple(state[key].shape), tuple(own.shape)
        fitting[key] = given
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        what = "the configuration of this checkpoint, such as configs/vit_b.json on top of the others"
        if all(problem.startswith(TEXT_LAYER) for problem in problems):
            what = f"--text_dim {state[TEXT_LAYER].shape[1]}"
        raise ValueError(
            f"{path}: {describe(state)}, network_def is {describe(expected)}: {'; '.join(problems[:3])}{more}; "
            f"give {what}"
        )
    network.load_state_dict(fitting, strict=False)
    report.ignored = [key for key in state if key == LABELS]
    logger.info(
        "%s: %d tensors loaded, %d positions resized, %d left as they were (text layer)",
        *(path, len(report.loaded), len(report.resized), len(report.untouched)),
    )
    return report


def knows_names(path: str | Path) -> bool:
    """Whether a file holds more than SAM's three parts. Raises ValueError where it holds no weights."""
    return not all(key.startswith(PARTS) for key in read_state(path))


def text_channels(weights: str | Path, adapter: str | Path | Mapping[str, str | Path] | None = None) -> int:
    """Channels of the text features that a network has to take: those of an adapter's text layer, or of the weights'.

    Args:
        weights: a state dict's file. Where it is missing, unreadable or without a text layer, whoever loads it says
            so: then 512, CLIP's.
        adapter: of one adapter, or {name: file}; see :class:`.inference.adapters.AdapterBank`. One that has no text
            layer leaves the weights' own.
    """
    try:
        if adapter:
            file = next(iter(adapter.values())) if isinstance(adapter, Mapping) else adapter
            with safe_open(file, "pt") as tensors:
                if TEXT_LAYER in tensors.keys():  # noqa: SIM118 (it is no mapping)
                    return tensors.get_slice(TEXT_LAYER).get_shape()[1]
        # Mapped, so that of a large file the names and shapes alone are read.
        state = torch.load(weights, map_location="cpu", weights_only=True, mmap=True)
        return state.get("model", state)[TEXT_LAYER].shape[1]
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, *BROKEN):
        return 512


def resized(key: str, given: Tensor, own: Tensor) -> Tensor:
    """A tensor of positions in the shape of the network's own; any other tensor as it is."""
    if given.shape == own.shape or given.ndim != own.ndim or given.shape[-1] != own.shape[-1]:
        return given
    if key.endswith(".pos_embed"):
        return resize_absolute(given, own.shape[1:3])
    if key.endswith((".rel_pos_h", ".rel_pos_w")):
        return resize_relative(given, len(own))
    return given


def describe(state: Mapping[str, Tensor]) -> str:
    """The size of a SAM, from its tensors."""
    blocks = {key.split(".")[2] for key in state if key.startswith("image_encoder.blocks.")}
    width = next((len(v) for k, v in state.items() if k.endswith("blocks.0.norm1.weight")), 0)
    return f"a SAM of {len(blocks)} blocks of width {width}"
