# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The mean of several weights of one network, such as those before and after a training that went on from them.

::

    python -m tools.research.mean_weights OUT IN IN ...
    python -m tools.research.mean_weights --half OUT IN ...

Between weights that were trained on and those they came from, the mean often does better on what is new than either
(WiSE-FT, arXiv 2109.01903; model soups, arXiv 2203.05482). Of a training that still runs the file ``state.pt`` will do:
its averaged weights are taken.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from common.files import whole_files
from common.weights import read_state

# The name of a training's own state, see common.training.run_state.
STATE = "state.pt"


def mean_weights(states: Sequence[dict[str, Tensor]], half: bool = False) -> dict[str, Tensor]:
    """The mean of each tensor, in its own dtype; what is not a floating point number is the first one's.

    Args:
        states: of one network.
        half: write floating point numbers in half precision, which halves a file and leaves the masks as they are.

    Raises:
        ValueError: tensors of other names or shapes.
    """
    first, *others = states
    for other in others:
        unlike = [k for k in {**first, **other} if k not in other or k not in first or first[k].shape != other[k].shape]
        if unlike:
            raise ValueError(
                f"weights of different networks: {', '.join(unlike[:3])}; expected the same names and shapes"
            )
    return {
        k: torch.stack([s[k].double() for s in states]).mean(0).to(torch.half if half else v.dtype)
        if v.is_floating_point()
        else v
        for k, v in first.items()
    }


def weights_of(path: Path) -> dict[str, Tensor]:
    """The state dict in a file of weights, or the averaged weights in the state of a training that keeps an average.

    Raises:
        ValueError: a file that cannot be read as either.
    """
    if path.name == STATE:
        average = torch.load(path, map_location="cpu", weights_only=True)["parts"]["average"]
        found = {k.removeprefix("module."): v for k, v in average.items() if k.startswith("module.")}
        if not found:
            raise ValueError(f"{path}: no averaged weights in it; expected the state of a training with average")
        return found
    return read_state(path)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.research.mean_weights", description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path, metavar="OUT", help="a new file for the mean")
    parser.add_argument("weights", type=Path, metavar="IN", nargs="+", help="state dicts of one network")
    parser.add_argument("--half", action="store_true", help="in half precision, as weights are shipped")
    options = parser.parse_args(arguments)
    if len(options.weights) < 2 and not options.half:
        parser.error(f"{len(options.weights)} file: expected two or more, or --half")
    if options.output.exists():
        # The order of files is easily mistaken, and weights are hours of work.
        parser.error(f"{options.output} is there already: give a new name for the mean first, then the weights")
    try:
        mean = mean_weights([weights_of(path) for path in options.weights], options.half)
    except ValueError as error:
        print(f"python -m tools.research.mean_weights: {error}", file=sys.stderr)
        return 1
    with whole_files(options.output.parent) as side:
        torch.save(mean, side / options.output.name)
    print(f"{options.output}: the mean of {len(options.weights)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
