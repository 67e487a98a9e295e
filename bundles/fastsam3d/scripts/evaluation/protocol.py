# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""How an object is asked for in an evaluation, and the numbers that come out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..common.clicks import deepest_point
from ..common.prompts import ObjectPrompt

METRICS = ("dice", "nsd", "hd95")
SECONDS = ("seconds_first_click", "seconds_per_click", "seconds_total")
# Of the truth, and of the mask after the last click.
VOLUMES = ("volume_ml", "predicted_ml")
# Dice from which on a mask is good, and very good; that to which clicks are counted.
GOOD, REACHED = (0.8, 0.9), 0.85
PROTOCOLS = ("clicks", "cvpr25")
FIRST = ("click", "box", "flat_box", "scribble", "lasso")
# The name of what is drawn, for the masks of a request.
DRAWN = "drawn"


@dataclass(frozen=True)
class Protocol:
    """A first prompt, then clicks in the middle of the largest error.

    Attributes:
        name: ``clicks``, or ``cvpr25`` for a box and five clicks, of which areas under the curves are reported too, as
            in the challenge "Foundation Models for Interactive 3D Biomedical Image Segmentation" at CVPR 2025.
        first: ``click``, which counts as the first click, or one of ``box`` around the object, ``flat_box`` around what
            its middle slice shows, ``scribble`` along that slice, ``lasso`` around the object in it, which are scored
            alone as after no click.
        clicks: numbers of clicks after which the mask is scored.

    Raises:
        ValueError: an unknown protocol or first prompt; numbers of clicks that are not positive and rising, or others
            than those of ``cvpr25``.
    """

    name: str = "clicks"
    first: str = "click"
    clicks: Sequence[int] = (1, 3, 5, 10)

    def __post_init__(self) -> None:
        if self.name not in PROTOCOLS or self.first not in FIRST:
            raise ValueError(
                f"protocol {self.name!r}, first {self.first!r}: expected {' or '.join(PROTOCOLS)}, and one of "
                f"{', '.join(FIRST)}"
            )
        clicks = list(self.clicks)
        if not clicks or clicks != sorted(set(clicks)) or clicks[0] < 1:
            raise ValueError(f"clicks {clicks}: expected rising numbers from 1 on, such as [1, 3, 5, 10]")
        if self.name == "cvpr25" and (self.first, clicks) != ("box", [1, 2, 3, 4, 5]):
            raise ValueError(
                f"protocol cvpr25 with first {self.first} and clicks {clicks}: expected box and [1, 2, 3, 4, 5]; leave "
                "both out, or take the protocol clicks"
            )

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of clicks after which the mask is scored, 0 for the first prompt alone."""
        return (*(() if self.first == "click" else (0,)), *self.clicks)

    @property
    def numbers(self) -> list[str]:
        """What a case is reported with, in the order of the columns."""
        scores = [f"{metric}@{k}" for k in self.counts for metric in METRICS]
        areas = [f"{metric}_{kind}" for metric in ("dice", "nsd") for kind in ("auc", "final")]
        above = [f"dice_above_{bar}@{k}" for bar in GOOD for k in self.counts]
        return [*scores, *(areas if self.name == "cvpr25" else ()), *above, "noc@85", *SECONDS, *VOLUMES]

    def derived(self, scores: Mapping[str, float], dice: Sequence[float]) -> dict[str, float]:
        """What follows from the scores of a case: the mean over cases of an ``above`` is their share.

        Args:
            scores: ``METRIC@COUNT`` for each of ``counts``.
            dice: after each step, of the first prompt too.

        Returns:
            the areas under the curves, by trapezoids from the first click to the last, and their last values, of
            ``cvpr25``; ``dice_above_BAR@COUNT``, 1 or 0; ``noc@85``, how many clicks brought the Dice to 0.85, the
            most that there are where none did.
        """
        found = {f"dice_above_{bar}@{k}": float(scores[f"dice@{k}"] > bar) for bar in GOOD for k in self.counts}
        if self.name == "cvpr25":
            for metric in ("dice", "nsd"):
                curve = [scores[f"{metric}@{k}"] for k in self.clicks]
                found[f"{metric}_auc"] = float(sum((a + b) / 2 for a, b in zip(curve, curve[1:], strict=False)))
                found[f"{metric}_final"] = curve[-1]
        before = 1 if self.first == "click" else 0
        reached = next((i for i, value in enumerate(dice) if value >= REACHED), None)
        found["noc@85"] = float(self.clicks[-1] if reached is None else min(reached + before, self.clicks[-1]))
        return found

    def first_prompt(self, name: str, truth: np.ndarray, spacing: Sequence[float]) -> tuple[ObjectPrompt, dict]:
        """What is said of the object before any click, and the masks (X, Y, Z) uint8 that it names.

        Args:
            name: of the object.
            truth: (X, Y, Z) bool, with at least one true voxel.
            spacing: mm between voxels.
        """
        if self.first == "click":
            return ObjectPrompt(name), {}
        if self.first == "box":
            return ObjectPrompt(name, box=box_around(truth)), {}
        plane = middle_slice(truth, spacing)
        if self.first == "flat_box":
            return ObjectPrompt(name, box=box_around(plane)), {}
        drawn = plane if self.first == "lasso" else stroke(plane)
        return ObjectPrompt(name, **{self.first: DRAWN}), {DRAWN: drawn.astype(np.uint8)}


def box_around(mask: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The lowest and the highest voxel of the smallest box that holds a mask."""
    voxels = np.argwhere(mask)
    return tuple(tuple(float(x) for x in corner) for corner in (voxels.min(axis=0), voxels.max(axis=0)))


def middle_slice(truth: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """(X, Y, Z) bool: what of the object lies in the slice through its deepest voxel, across the coarsest axis.

    Of its pieces there the one with that voxel, since a person draws around one.
    """
    axis = int(np.argmax(spacing))
    place = deepest_point(truth, spacing)
    plane = np.zeros_like(truth)
    cut = tuple(place[axis] if k == axis else slice(None) for k in range(3))
    pieces, _ = ndimage.label(truth[cut])
    plane[cut] = pieces == pieces[tuple(p for k, p in enumerate(place) if k != axis)]
    return plane


def stroke(mask: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
    """(X, Y, Z) bool: a straight stroke through the deepest voxel of a slice or an object, along its longest line."""
    place = deepest_point(mask, spacing)
    lines = [tuple(slice(None) if k == axis else place[k] for k in range(3)) for axis in range(3)]
    longest = max(lines, key=lambda line: int(mask[line].sum()))
    drawn = np.zeros_like(mask)
    drawn[longest] = mask[longest]
    return drawn
