# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""An odd input, and what a person may expect of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np


class Wrong(AssertionError):
    """A result that came without a complaint, and is not what the file and the prompts say."""


@dataclass(frozen=True)
class OddInput:
    """One input of the campaign.

    Attributes:
        said: what is odd about it, in words.
        options: of the configuration.
        expect: ``right``: a result, and ``check`` holds. ``refused``: a sentence, and no result. ``either``: one of
            the two, never a wrong result.
        check: takes the output folder, raises :class:`Wrong`.
        names: a regular expression that a refusal has to match: the file or the option that is at fault.
        run: ``fastsam3d`` or ``ssam_2d``: the bundle's inference.json; ``train``: the data of ssam_2d's train.json;
            ``prepare``: tools.prepare_data with ``options["arguments"]``.
        apart: run in a process of its own, because a wrong form of the program might take this one along.
        command: run as users do, ``python -m monai.bundle run``, because what is odd is lost on the way otherwise.
        folder: in which that command runs.
    """

    said: str
    options: dict[str, Any]
    expect: Literal["right", "refused", "either"] = "right"
    check: Callable[[Path], None] | None = None
    names: str = "."
    run: Literal["fastsam3d", "ssam_2d", "train", "prepare"] = "fastsam3d"
    apart: bool = False
    command: bool = False
    folder: Path | None = None


@dataclass
class Draw:
    """What an odd input is made of: random numbers that its name decides, and a folder of its own."""

    rng: np.random.Generator
    folder: Path
    turn: int = field(default=0)

    def one_of(self, *choices: Any) -> Any:
        """Each choice in its turn, so that the first inputs of a kind are all different."""
        return choices[self.turn % len(choices)]
