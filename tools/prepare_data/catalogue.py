# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""All data sets by the name that the command takes."""

from __future__ import annotations

import textwrap
from pathlib import Path

from tools.prepare_data.case import Choices
from tools.prepare_data.sets import (
    abdominal_us,
    amos22,
    arcade,
    brats,
    chestx_det,
    cholecseg8k,
    decathlon,
    drive,
    glas,
    lits,
    nnunet,
    pairs,
    salt,
    samples_2d,
    samples_3d,
    totalsegmentator,
)

DATA_SETS = {
    "cholecseg8k": cholecseg8k,
    "glas": glas,
    "chestx_det": chestx_det,
    "abdominal_us": abdominal_us,
    "lits": lits,
    "drive": drive,
    "arcade": arcade,
    "salt": salt,
    "amos22": amos22,
    "totalsegmentator": totalsegmentator,
    "brats": brats,
    "nnunet": nnunet,
    "decathlon": decathlon,
    "pairs": pairs,
    **samples_2d.DATA_SETS,
    **samples_3d.DATA_SETS,
}


def explain(name: str) -> str:
    """All that is known of a data set, as text."""
    about = DATA_SETS[name].ABOUT
    rows = [("", about.title), ("licence", about.licence), ("from", about.where), ("size", about.size)]
    rows += [("source", about.layout), ("note", about.notes)]
    lines = [name]
    for key, text in rows:
        for line in filter(None, text.splitlines()):
            lines += textwrap.wrap(line, 110, initial_indent=f"  {key:8}", subsequent_indent=" " * 12)
            key = ""
    return "\n".join(lines)


def fitting(source: Path) -> list[str]:
    """Names of the data sets of which the folder holds a complete case."""
    names = []
    for name, data_set in DATA_SETS.items():
        try:
            found = data_set.find(source, Choices())
        except ValueError:
            continue
        if found.cases:
            names.append(name)
    return names
