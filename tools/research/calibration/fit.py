# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Temperature and offset that make probabilities of logits, and how far these are off.

A voxel is the object's with the probability ``sigmoid(slope * logit + offset)``: Platt's scaling (1999), and where the
offset is 0 temperature scaling (Guo et al., 2017), with the temperature 1 / slope. The expected calibration error is
Guo's, with bins of equal width. Every object has the same weight, whatever its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit
from scipy.stats import spearmanr

from bundles.fastsam3d.scripts.inference.confidence import DOUBTED

from .collect import EDGES

MIDDLES = (EDGES[1:] + EDGES[:-1]) / 2
BINS = 10


class Scaling(NamedTuple):
    """``sigmoid(slope * logit + offset)``."""

    slope: float = 1.0
    offset: float = 0.0

    def probabilities(self) -> np.ndarray:
        """Of the logits in the middle of each bin."""
        return expit(self.slope * MIDDLES + self.offset)


def counts(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """(2, bins): voxels outside and inside the objects, each object and number of clicks weighing 1."""
    found = np.array([[r["outside"], r["inside"]] for r in rows], dtype=float)
    return (found / found.sum(axis=(1, 2), keepdims=True)).mean(axis=0)


def fitted(rows: Sequence[dict[str, Any]], with_offset: bool) -> Scaling:
    """The scaling of the least cross entropy."""
    outside, inside = counts(rows)

    def loss(parameters: np.ndarray) -> float:
        scaled = parameters[0] * MIDDLES + (parameters[1] if with_offset else 0)
        return -float(inside @ log_expit(scaled) + outside @ log_expit(-scaled))

    found = minimize(loss, [1.0, 0.0][: 1 + with_offset], method="Nelder-Mead").x
    return Scaling(float(found[0]), float(found[1]) if with_offset else 0.0)


def reliability(rows: Sequence[dict[str, Any]], scaling: Scaling) -> list[tuple[float, float, float]]:
    """For each bin of probabilities: the share of voxels, the mean probability, and how many are the object's."""
    outside, inside = counts(rows)
    found = np.minimum((scaling.probabilities() * BINS).astype(int), BINS - 1)
    table = []
    for number in range(BINS):
        here = found == number
        share = float((outside + inside)[here].sum())
        if share:
            said = float(((outside + inside) * scaling.probabilities())[here].sum()) / share
            table.append((share, said, float(inside[here].sum()) / share))
    return table


def error(rows: Sequence[dict[str, Any]], scaling: Scaling) -> float:
    """Expected calibration error."""
    return sum(share * abs(said - true) for share, said, true in reliability(rows, scaling))


def likely_iou(row: dict[str, Any], scaling: Scaling, lowest: float = DOUBTED) -> float:
    """What the probabilities say of a mask, see ``predicted_iou`` of the engine; ``lowest`` logit that is doubted."""
    voxels, likely = np.array(row["all"], dtype=float), scaling.probabilities()
    mask, doubted = MIDDLES > 0, (MIDDLES <= 0) & (MIDDLES > lowest)
    union = voxels[mask].sum() + (voxels * likely)[doubted].sum()
    return float((voxels * likely)[mask].sum() / union) if union else 0.0


def agreement(rows: Sequence[dict[str, Any]], estimates: Sequence[float]) -> tuple[float, float]:
    """Spearman's correlation of estimates with the Dice, and their mean distance from the IoU."""
    dice, iou = ([r[name] for r in rows] for name in ("dice", "iou"))
    return float(spearmanr(estimates, dice).statistic), float(np.abs(np.array(estimates) - iou).mean())
