# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What each documented prompt gives alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from bundles.fastsam3d.scripts.evaluation.protocol import box_around, stroke
from common.clicks import deepest_point

from . import drawing
from .objects import Engine, Labelled, dice


def prompts(thing: Labelled) -> dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Every documented prompt: what is asked, and the masks that it names."""
    click = list(deepest_point(thing.truth, thing.grid.spacing))
    beside = list(drawing.beside(thing))
    box = box_around(thing.truth)
    forms: dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]] = {
        "click": ({"foreground": [click]}, {}),
        "click and background": ({"foreground": [click], "background": [beside]}, {}),
        "box": ({"box": box}, {}),
        "box and click": ({"box": box, "foreground": [click]}, {}),
        "box and background": ({"box": box, "background": [beside]}, {}),
        **{
            f"flat box across axis {axis}": ({"box": box_around(drawing.section(thing, 1, axis))}, {})
            for axis in range(3)
        },
        **{f"box of {n} slices": ({"box": box_around(drawing.section(thing, n))}, {}) for n in (1, 2, 3, 4)},
        "lasso": ({"lasso": "outline"}, {"outline": drawing.lasso(thing)}),
        "scribble": ({"scribble": "stroke"}, {"stroke": stroke(thing.truth, thing.grid.spacing)}),
    }
    for how in ("whole", "eroded", "lump"):
        mask = {"last": drawing.spoiled(thing, how)}
        forms[f"last mask, {how}"] = ({"previous_mask": "last"}, mask)
        forms[f"last mask, {how}, background"] = ({"previous_mask": "last", "background": [beside]}, mask)
    eroded = {"last": drawing.spoiled(thing, "eroded")}
    forms["last mask, eroded, click"] = ({"previous_mask": "last", "foreground": [click]}, eroded)
    return forms


def measure(engine: Engine, thing: Labelled) -> dict[str, dict[str, float]]:
    """For each prompt the Dice of the mask, and of the mask that was given, if any."""
    rows = {}
    for name, (asked, masks) in prompts(thing).items():
        row = {"dice": dice(engine.mask(thing, asked, **masks), thing.truth)}
        if "last" in masks:
            row["given"] = dice(masks["last"], thing.truth)
        rows[name] = row
    return rows


def table(rows: dict[str, dict[str, dict[str, float]]]) -> str:
    """Markdown: a row for each prompt, over all objects."""
    lines = [
        "| prompt | objects | mean Dice | median | lowest | below 0.1 | mean of the mask given |",
        "|" + "---|" * 7,
    ]
    for name in next(iter(rows.values())):
        scores = [r[name]["dice"] for r in rows.values()]
        given = [r[name]["given"] for r in rows.values() if "given" in r[name]]
        values = [np.mean(scores), np.median(scores), min(scores)]
        shown = " | ".join(f"{v:.3f}" for v in values)
        low = sum(s < 0.1 for s in scores)
        lines.append(f"| {name} | {len(scores)} | {shown} | {low} | {f'{np.mean(given):.3f}' if given else ''} |")
    return "\n".join(lines)
