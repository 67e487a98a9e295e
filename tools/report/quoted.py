# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Figures quoted from the papers, to stand beside ours. None of them was measured by this project."""

from __future__ import annotations

from typing import NamedTuple


class Quote(NamedTuple):
    """A figure of a paper.

    Attributes:
        data_set: name in tools.prepare_data.
        method: as the paper calls it.
        metric: as in metrics.json.
        value: in the paper's unit.
        source: the paper.
    """

    data_set: str
    method: str
    metric: str
    value: float
    source: str


S_SAM = "arXiv 2408.06447 and its reviews"
SALT = "arXiv 2503.16055, average of its five sets"
QUOTES = (
    Quote("cholecseg8k", "S-SAM", "hd95", 44.5, S_SAM),
    Quote("cholecseg8k", "AdaptiveSAM", "hd95", 77.2, S_SAM),
    Quote("glas", "S-SAM", "hd95", 49.4, S_SAM),
    Quote("glas", "AdaptiveSAM", "hd95", 106.2, S_SAM),
    Quote("salt", "S-SAM as SALT ran it", "dice", 0.71, SALT),
    Quote("salt", "LoRA r4", "dice", 0.66, SALT),
    Quote("salt", "LoRA r256", "dice", 0.70, SALT),
    Quote("salt", "SALT r4", "dice", 0.72, SALT),
    Quote("salt", "SALT r256", "dice", 0.74, SALT),
)
# Statements that are no row of a table.
STATEMENTS = {
    "salt": "Quoted from SALT: S-SAM trained 0.4 % of the parameters there, SALT r256 3.9 %.",
    "fastsam3d": "Quoted from FastSAM3D (arXiv 2403.09827): 8 ms for a volume of 128^3 on an A100, 527.38 times faster "
    "than 2D SAMs and 8.75 times faster than 3D SAMs; without progression its distillation converges 3 times slower "
    "and loses 3 % of Dice, distilling logits does not converge, and 3 teacher blocks for one of the student cost over "
    "70 %. No Dice of it for this data set is quoted.",
}
# The data sets that FastSAM3D is measured on.
FASTSAM3D = ("amos22", "totalsegmentator", "brats")


def quotes(data_set: str | None) -> list[Quote]:
    """What the papers state for a data set."""
    return [quote for quote in QUOTES if quote.data_set == data_set]


def statement(data_set: str | None) -> str | None:
    """What else they state of it."""
    return STATEMENTS.get("fastsam3d" if data_set in FASTSAM3D else data_set or "")
