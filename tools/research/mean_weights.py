# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The mean of several weights of one network, such as those before and after a training that went on from them.

::

    python -m tools.research.mean_weights OUT IN IN ...

Between weights that were trained on and those they came from, the mean often does better on what is new than either
(WiSE-FT, arXiv 2109.01903; model soups, arXiv 2203.05482).
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


def mean_weights(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each tensor, in its own dtype; what is not a floating point number is the first one's.

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
        k: torch.stack([s[k].double() for s in states]).mean(0).to(v.dtype) if v.is_floating_point() else v
        for k, v in first.items()
    }


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.research.mean_weights", description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path, metavar="OUT", help="a new file for the mean")
    parser.add_argument("weights", type=Path, metavar="IN", nargs="+", help="state dicts of one network, two or more")
    options = parser.parse_args(arguments)
    if len(options.weights) < 2:
        parser.error(f"{len(options.weights)} file: expected two or more")
    if options.output.exists():
        # The order of files is easily mistaken, and weights are hours of work.
        parser.error(f"{options.output} is there already: give a new name for the mean first, then the weights")
    try:
        mean = mean_weights([read_state(path) for path in options.weights])
    except ValueError as error:
        print(f"python -m tools.research.mean_weights: {error}", file=sys.stderr)
        return 1
    with whole_files(options.output.parent) as side:
        torch.save(mean, side / options.output.name)
    print(f"{options.output}: the mean of {len(options.weights)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
