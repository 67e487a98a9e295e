# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Whether further right clicks make a mask worse: two people click on an object and see each mask before they go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from common.clicks import deepest_point, error_click

from .objects import Engine, Labelled, dice

# A further click that costs more Dice than this made the mask worse.
WORSE = 0.03
CLICKS = 10
SCORED = (1, 3, 5, 10)
PEOPLE = ("inside", "errors")


def measure(engine: Engine, thing: Labelled) -> dict[str, list[dict[str, Any]]]:
    """Dice after each of ten clicks, by two people.

    ``inside`` clicks anywhere in the object, also where the mask has it already: all of its clicks are right.
    ``errors`` clicks as evaluate.json does, in the deepest point of the largest error.
    """
    spacing = thing.grid.spacing
    rng, voxels = np.random.default_rng(0), np.argwhere(thing.truth)
    people: dict[str, Callable[[np.ndarray], tuple[Sequence[int], int] | None]] = {
        "inside": lambda mask: (voxels[rng.integers(len(voxels))].tolist(), 1),
        "errors": lambda mask: error_click(mask, thing.truth, spacing=spacing),
    }
    found = {}
    for name in PEOPLE:
        clicks, labels, rows = [list(deepest_point(thing.truth, spacing))], [1], []
        while True:
            mask = engine.mask(thing, {"points": clicks, "point_labels": labels})
            rows.append({"label": labels[-1], "dice": dice(mask, thing.truth)})
            click = people[name](mask) if len(clicks) < CLICKS else None
            if click is None:
                break
            rows[-1]["next_is_inside"] = bool(mask[tuple(click[0])])
            clicks.append([int(i) for i in click[0]])
            labels.append(int(click[1]))
        found[name] = rows
    return found


def table(rows: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """Markdown: for each person how many right clicks made a mask worse, and the mean Dice after some clicks."""
    scored = [f"Dice@{k}" for k in SCORED]
    lines = [f"| clicks | further right clicks | worse by {WORSE} | objects with one | {' | '.join(scored)} |"]
    lines.append("|" + "---|" * (4 + len(SCORED)))
    for person in PEOPLE:
        series = [r[person] for r in rows.values()]
        # A click is right wherever it is on the object; those on the background are right too, and are counted alike.
        losses = [[a["dice"] - b["dice"] for a, b in zip(s[:-1], s[1:], strict=True)] for s in series]
        steps = sum(len(s) for s in losses)
        worse, hurt = sum(x > WORSE for s in losses for x in s), sum(max(s, default=0) > WORSE for s in losses)
        means = [np.mean([s[min(k, len(s)) - 1]["dice"] for s in series]) for k in SCORED]
        shares = f"{worse} ({worse / max(1, steps):.1%}) | {hurt} of {len(series)}"
        lines.append(f"| {person} | {steps} | {shares} | {' | '.join(f'{m:.3f}' for m in means)} |")
    return "\n".join(lines)
