# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""An account of every tensor of a checkpoint: used, known and not needed, or unknown, which is an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor

from common.svd_affine import Adapter
from common.weights import counted

WORKFLOW = "workflow"


@dataclass
class Conversion:
    """What a checkpoint became.

    Attributes:
        tensors: the converted weights by name.
        used: names in the checkpoint, and the names that they got.
        unused: names in the checkpoint that are known and not needed, and why.
        network: the settings found in the tensors' shapes, by part; those of the whole workflow under ``WORKFLOW``.
        notes: what the user should know.
        overlays: configurations of the bundle, beside those of the kind, with which the result runs as it is.
        adapter: what is written in place of the tensors, where it is one.
    """

    tensors: dict[str, Tensor]
    used: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    network: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    overlays: tuple[str, ...] = ()
    adapter: Adapter | None = None


def account(
    state: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    rename: Callable[[str], str] = str,
    known: Mapping[str, str] | None = None,
) -> Conversion:
    """The tensors of ``state`` under the names of ``expected``, which all have to be there in their shapes.

    Args:
        state: a checkpoint's weights.
        expected: the network's, for names and shapes alone (a network on the meta device will do).
        rename: from a name in the checkpoint to the network's.
        known: patterns of names that are not needed, each with the reason.

    Raises:
        ValueError: missing or unknown names, other shapes; all that is wrong in one message.
    """
    conversion, unknown, shapes = Conversion({}), [], []
    for key, tensor in state.items():
        name = rename(key)
        if name in expected:
            if tensor.shape != expected[name].shape:
                shapes.append(f"{key} {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}")
            # Saved views of larger tensors would be written whole.
            conversion.tensors[name] = tensor.detach().clone()
            conversion.used[key] = name
            continue
        why = next((why for pattern, why in (known or {}).items() if fnmatchcase(key, pattern)), None)
        if why is None:
            unknown.append(key)
        else:
            conversion.unused[key] = why
    missing = [name for name in expected if name not in conversion.tensors]
    problems = counted({"unknown": unknown, "missing": missing, "of another size": shapes})
    if problems:
        raise ValueError(
            f"tensors that do not fit: {problems}; expected the {len(expected)} of this kind of checkpoint: "
            "give the file as it was published, or another --kind"
        )
    # In the network's own order.
    conversion.tensors = {name: conversion.tensors[name] for name in expected}
    return conversion


def encoder_sizes(encoder: Mapping[str, Tensor], blocks: int, heads: int, last: str) -> dict[str, Any]:
    """The settings that the published image encoders have in common, from the shapes.

    Args:
        encoder: its tensors, positions as (1, side, ..., width).
        blocks: their number.
        heads: of each.
        last: name of a tensor as long as the embedding has channels.
    """
    width, patch = encoder["pos_embed"].shape[-1], encoder["patch_embed.proj.weight"].shape[-1]
    return {
        "img_size": encoder["pos_embed"].shape[1] * patch,
        "patch_size": patch,
        "embed_dim": width,
        "depth": blocks,
        "num_heads": heads,
        "mlp_ratio": len(encoder["blocks.0.mlp.lin1.weight"]) // width,
        "out_chans": len(encoder[last]),
    }


def part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name starts with ``prefix.``, without it."""
    return {key.removeprefix(f"{prefix}."): value for key, value in state.items() if key.startswith(f"{prefix}.")}


def need(state: Mapping[str, Tensor], *keys: str) -> None:
    """Raise a ValueError unless all keys are there, before a network's size is read off them."""
    missing = [key for key in keys if key not in state]
    if missing:
        raise ValueError(f"no {', '.join(missing)} in the checkpoint; expected the file as it was published")


def block_count(state: Mapping[str, Tensor]) -> int:
    """How many transformer blocks an encoder has."""
    return 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
