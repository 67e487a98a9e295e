# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Weights of ``fastsam3d`` with its earlier, narrower refiner, for the wider one of today.

::

    python -m tools.widen_refiner IN OUT

The masks stay as they are but for rounding; ``python -m tools.train_default --start OUT`` goes on from there.
New channels are copies of old ones, and what reads them divides its weight between the two, unevenly, so that they
learn apart (Net2Net, Chen et al. 2016). The embedding, which the earlier refiner did not see, is read with zeros.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from common.weights import read_state
from tools.train_default import build_network, export_weights

# Channels of the earlier refiner's levels.
BEFORE = (32, 64, 96, 128)
GROUPS = 4
UNET = "refiner.unet.model"
BOTTOM = f"{UNET}.1.submodule.1.submodule.1.submodule"


class Channels(NamedTuple):
    """Where the channels between two layers come from.

    Attributes:
        source: (new,) the old channel that each repeats, -1 for one that was not there.
        share: (new,) of the weight with which the old one is read.
    """

    source: Tensor
    share: Tensor


def same(count: int) -> Channels:
    """As many channels as before."""
    return Channels(torch.arange(count), torch.ones(count))


def nothing(count: int) -> Channels:
    """Channels that were not there."""
    return Channels(torch.full((count,), -1), torch.ones(count))


def copies(before: int, after: int, rng: np.random.Generator) -> Channels:
    """Channels some of which are there twice; copies stay in the group over which they are normalised."""
    old, new = before // GROUPS, after // GROUPS
    sources, shares = [], []
    for group in range(GROUPS):
        repeated = rng.choice(old, new - old, replace=False)
        first = rng.uniform(0.3, 0.7, new - old)
        share = np.ones(new)
        share[repeated], share[old:] = first, 1 - first
        sources.append(group * old + np.concatenate([np.arange(old), repeated]))
        shares.append(share)
    return Channels(torch.from_numpy(np.concatenate(sources)), torch.from_numpy(np.concatenate(shares)).float())


def together(*parts: Channels) -> Channels:
    """Channels of several tensors one after the other."""
    sources, start = [], 0
    for part in parts:
        sources.append(torch.where(part.source < 0, -1, part.source + start))
        start += max(0, int(part.source.max()) + 1)
    return Channels(torch.cat(sources), torch.cat([p.share for p in parts]))


def widened(before: dict[str, Tensor], network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """The weights for ``network``, see the module.

    Args:
        before: state dict with the earlier refiner.
        network: with today's refiner, whose mixtures of the embedding are kept.
        seed: of the choice of the channels that are repeated.

    Raises:
        ValueError: weights of another network.
    """
    after = network.state_dict()
    levels = [f"{UNET}.0", f"{UNET}.1.submodule.0", f"{UNET}.1.submodule.1.submodule.0", BOTTOM]
    bias = ".conv.unit0.conv.bias"
    if [len(before.get(name + bias, ())) for name in levels] != list(BEFORE):
        raise ValueError(f"weights of another network: expected fastsam3d's, its refiner with {BEFORE} channels")
    rng = np.random.default_rng(seed)
    first, second, third, deepest = (
        copies(old, len(after[name + bias]), rng) for old, name in zip(BEFORE, levels, strict=True)
    )
    context, narrow = len(after["refiner.context.mix.bias"]), same(len(before[f"{UNET}.2.0.conv.bias"]))
    # The image and the encoder's finest map, then the embedding, then logits, prompts and nearness.
    read = together(same(before[f"{UNET}.0.residual.weight"].shape[1] - 6), nothing(context), same(6))
    # What each part of the refiner reads and writes.
    parts = {
        f"{UNET}.0": (read, first),
        f"{UNET}.1.submodule.0": (first, second),
        f"{UNET}.1.submodule.1.submodule.0": (second, third),
        BOTTOM: (third, deepest),
        f"{UNET}.1.submodule.1.submodule.2.0": (together(third, deepest), second),
        f"{UNET}.1.submodule.1.submodule.2.1": (second, second),
        f"{UNET}.1.submodule.2.0": (together(second, second), first),
        f"{UNET}.1.submodule.2.1": (first, first),
        f"{UNET}.2.0": (together(first, first), narrow),
        f"{UNET}.2.1": (narrow, narrow),
        "refiner.edges.0": (together(read, narrow), narrow),
        "refiner.edges": (narrow, narrow),
    }
    weights = {}
    for name, value in after.items():
        if name not in before:
            weights[name] = value.clone()
            continue
        old = before[name].to(value.dtype)
        part = next((p for p in sorted(parts, key=len, reverse=True) if name.startswith(p + ".")), None)
        if part is not None and old.shape != value.shape:
            reads, writes = parts[part]
            old = old[writes.source] if old.dim() == 1 else convolution(old, reads, writes, ".2.0.conv" in name)
        weights[name] = old
    return weights


def convolution(weight: Tensor, reads: Channels, writes: Channels, transposed: bool) -> Tensor:
    """A weight (out, in, ...), or (in, out, ...) where ``transposed``, between other channels."""
    weight = weight.transpose(0, 1) if transposed else weight
    share = torch.where(reads.source < 0, 0, reads.share)
    weight = weight[writes.source][:, reads.source.clamp(min=0)] * share.view(1, -1, 1, 1, 1)
    return weight.transpose(0, 1).contiguous() if transposed else weight


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.widen_refiner", description=__doc__.split("\n")[0])
    parser.add_argument("before", type=Path, metavar="IN", help="weights with the earlier refiner")
    parser.add_argument("output", type=Path, metavar="OUT", help="where the wider ones go")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    network = build_network()
    try:
        network.load_state_dict(widened(read_state(options.before), network))
    except ValueError as error:
        print(f"python -m tools.widen_refiner: {error}", file=sys.stderr)
        return 1
    export_weights(network, options.output)
    print(f"{options.output}: {sum(p.numel() for p in network.parameters()):,} numbers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
