# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What each documented prompt gives alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from common.clicks import deepest_point

from .objects import Engine, Labelled, dice


def _box(mask: np.ndarray) -> list[list[int]]:
    voxels = np.argwhere(mask)
    return [voxels.min(axis=0).tolist(), voxels.max(axis=0).tolist()]


def _flat_box(thing: Labelled, slices: int) -> list[list[int]]:
    """Around what ``slices`` slices across the coarsest axis show of the object, in its middle."""
    axis = int(np.argmax(thing.grid.spacing))
    middle, extent = deepest_point(thing.truth, thing.grid.spacing)[axis], np.argwhere(thing.truth)[:, axis]
    first = int(np.clip(middle - slices // 2, extent.min(), max(extent.min(), extent.max() + 1 - slices)))
    part = np.zeros_like(thing.truth)
    cut = tuple(slice(first, first + slices) if k == axis else slice(None) for k in range(3))
    part[cut] = thing.truth[cut]
    return _box(part)


def _stroke(thing: Labelled) -> np.ndarray:
    """A line through the deepest voxel along the longer side of its slice, with 1, as far as the object goes."""
    place = deepest_point(thing.truth, thing.grid.spacing)
    lines = [tuple(slice(None) if k == axis else place[k] for k in range(3)) for axis in range(3)]
    stroke = np.zeros(thing.truth.shape, dtype=np.uint8)
    longest = max(lines, key=lambda line: int(thing.truth[line].sum()))
    stroke[longest] = thing.truth[longest]
    return stroke


def _spoiled(thing: Labelled, how: str) -> np.ndarray:
    """The truth as somebody may have drawn it: in full, too small by a layer, or with a lump beside it."""
    if how == "whole":
        return thing.truth
    if how == "eroded":
        smaller = ndimage.binary_erosion(thing.truth)
        return smaller if smaller.any() else thing.truth
    lump = np.zeros_like(thing.truth)
    lump[_beside(thing)] = True
    radius = max(2.0, 0.3 * (thing.truth.sum() * np.prod(thing.grid.spacing)) ** (1 / 3))
    return thing.truth | (ndimage.distance_transform_edt(~lump, thing.grid.spacing) <= radius)


def _beside(thing: Labelled) -> tuple[int, ...]:
    """A voxel outside the object, some mm from its border."""
    far = ndimage.distance_transform_edt(~thing.truth, thing.grid.spacing)
    wanted = max(float(thing.grid.spacing.max()), 0.2 * (thing.truth.sum() * np.prod(thing.grid.spacing)) ** (1 / 3))
    return tuple(int(i) for i in np.unravel_index(int(np.abs(far - wanted).argmin()), far.shape))


def prompts_alone(thing: Labelled) -> dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Every documented prompt: what is asked, and the masks that it names."""
    click = list(deepest_point(thing.truth, thing.grid.spacing))
    beside = list(_beside(thing))
    forms: dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]] = {
        "click": ({"foreground": [click]}, {}),
        "click and background": ({"foreground": [click], "background": [beside]}, {}),
        "box": ({"box": _box(thing.truth)}, {}),
        "box and click": ({"box": _box(thing.truth), "foreground": [click]}, {}),
        "box and background": ({"box": _box(thing.truth), "background": [beside]}, {}),
        **{f"box of {n} slices": ({"box": _flat_box(thing, n)}, {}) for n in (1, 2, 3, 4)},
        "scribble": ({"scribble": "stroke"}, {"stroke": _stroke(thing)}),
    }
    for how in ("whole", "eroded", "lump"):
        mask = {"last": _spoiled(thing, how)}
        forms[f"last mask, {how}"] = ({"previous_mask": "last"}, mask)
        forms[f"last mask, {how}, background"] = ({"previous_mask": "last", "background": [beside]}, mask)
    forms["last mask, eroded, click"] = (
        {"previous_mask": "last", "foreground": [click]},
        {"last": _spoiled(thing, "eroded")},
    )
    return forms


def measure(engine: Engine, thing: Labelled) -> dict[str, dict[str, float]]:
    """For each prompt the Dice of the mask, and of the mask that was given, if any."""
    rows = {}
    for name, (asked, masks) in prompts_alone(thing).items():
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
