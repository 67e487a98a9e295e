# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A flat box or a lasso in the middle slice against one click: alone, and with two clicks more."""

from __future__ import annotations

from typing import Any

import numpy as np

from bundles.fastsam3d.scripts.evaluation.protocol import box_around
from common.clicks import deepest_point, error_click

from . import drawing
from .objects import Engine, Labelled, dice

FURTHER = 2


def measure(engine: Engine, thing: Labelled) -> dict[str, list[float]]:
    """For each first prompt the Dice after it and after each further click in the deepest point of the error."""
    spacing = thing.grid.spacing
    outline = drawing.lasso(thing)
    firsts: dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]] = {
        "click": ({"points": [list(deepest_point(thing.truth, spacing))], "point_labels": [1]}, {}),
        "box": ({"box": box_around(thing.truth)}, {}),
        "flat box": ({"box": box_around(drawing.section(thing))}, {}),
        "lasso": ({"lasso": "outline"}, {"outline": outline}),
    }
    rows = {}
    for name, (first, masks) in firsts.items():
        asked, scores = {"points": [], "point_labels": [], **first}, []
        while True:
            mask = engine.mask(thing, asked, **masks)
            scores.append(dice(mask, thing.truth))
            click = error_click(mask, thing.truth, spacing=spacing) if len(scores) <= FURTHER else None
            if click is None:
                break
            asked["points"] = [*asked["points"], [int(i) for i in click[0]]]
            asked["point_labels"] = [*asked["point_labels"], int(click[1])]
        rows[name] = scores + scores[-1:] * (FURTHER + 1 - len(scores))
    return rows


def table(rows: dict[str, dict[str, list[float]]]) -> str:
    """Markdown: a row for each first prompt, the mean Dice over all objects."""
    further = " | ".join(f"{n} click{'s' * (n > 1)} more" for n in range(1, FURTHER + 1))
    lines = [f"| first prompt | alone | {further} | alone below 0.1 |", "|" + "---|" * (FURTHER + 3)]
    for name in next(iter(rows.values())):
        scores = np.array([r[name] for r in rows.values()])
        means = " | ".join(f"{v:.3f}" for v in scores.mean(axis=0))
        lines.append(f"| {name} | {means} | {int((scores[:, 0] < 0.1).sum())} |")
    return "\n".join(lines)
