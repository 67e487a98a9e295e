# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The checkpoints that fine-tuning starts from: SAM's and MedSAM's as published, and this project's own base."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from .common.weights import check_finite, read_state
from .networks.positions import resize_absolute, resize_relative
from .networks.ssam import LABEL_TENSORS

logger = logging.getLogger(__name__)
PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
TEXT = "text_affine."
TEXT_LAYER = f"{TEXT}linear.weight"


@dataclass
class StartReport:
    """What became of each tensor of a checkpoint and of the network.

    Attributes:
        loaded: names taken as they are.
        resized: names of positions that were brought to the network's size, with the shapes before and after.
        ignored: names of the checkpoint that are of no use here: its labels.
        untouched: names of the network that the checkpoint does not have: the text layer, where it is SAM's own.
    """

    loaded: list[str] = field(default_factory=list)
    resized: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    untouched: list[str] = field(default_factory=list)


def load_start(network: nn.Module, path: str | Path, state: Mapping[str, Tensor] | None = None) -> StartReport:
    """SAM's three parts of a checkpoint into ``network``, positions resized; its text layer too where it has one.

    Args:
        network: see :class:`.networks.ssam.SSAM`; its labels stay as they are.
        path: a state dict, plain or under ``model``, with ``image_encoder.*``, ``prompt_encoder.*`` and
            ``mask_decoder.*``.
        state: what was read of it already.

    Raises:
        ValueError: no such file, no SAM, or a SAM of another size; then the network is as it was.
    """
    state = read_state(path) if state is None else state
    expected = {k: v for k, v in network.state_dict().items() if k not in LABEL_TENSORS}
    if not all(any(key.startswith(part) for key in state) for part in PARTS):
        raise ValueError(
            f"{path}: no SAM checkpoint: its {len(state)} tensors are {', '.join(list(state)[:3])}, ...; expected "
            f"names that start with {', '.join(PARTS)}"
        )
    report, fitting = StartReport(), {}
    with_text = any(key.startswith(TEXT) for key in state)
    problems = [f"{key} is not known" for key in state if key not in expected and key not in LABEL_TENSORS]
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
    check_finite(fitting, path)
    network.load_state_dict(fitting, strict=False)
    report.ignored = [key for key in state if key in LABEL_TENSORS]
    logger.info(
        "%s: %d tensors loaded, %d positions resized, %d left as they were (text layer)",
        *(path, len(report.loaded), len(report.resized), len(report.untouched)),
    )
    return report


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
