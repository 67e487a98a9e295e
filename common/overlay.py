# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A picture of 2D results: coloured, outlined labels over the image, with a legend."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .drawn_names import drawn_name
from .preview import COLOURS

DPI = 100
# Pixels of the longer side of a picture: small images are enlarged, large ones reduced.
SHORTEST, LONGEST = 400, 1400
# Pixels above each picture.
TITLE = 22


@dataclass
class Picture:
    """One image of the overlay.

    Attributes:
        image: (H, W) or (H, W, 3), 0 to 255.
        labels: (H, W) index map, 0 outside.
        title: above it.
        truth: (H, W) index map to compare with, drawn as dashed outlines.
        aspect: height of a pixel over its width.
        points: (x, y) of clicks and 1 foreground or 0 background.
        boxes: x and y of the first and of the last pixel inside.
    """

    image: np.ndarray
    labels: np.ndarray
    title: str = ""
    truth: np.ndarray | None = None
    aspect: float = 1.0
    points: Sequence[tuple[tuple[float, float], int]] = ()
    boxes: Sequence[tuple[float, float, float, float]] = ()


def save_overlay(path: str | Path, pictures: Sequence[Picture], names: Mapping[int, str]) -> None:
    """Write a PNG of one or several pictures beside each other.

    Args:
        path: of the PNG.
        pictures: at least one.
        names: of the labels by their value; those that are nowhere to be seen are left out of the legend.
    """
    pictures = [_reduced(picture) for picture in pictures]
    sizes = [_shown_size(picture) for picture in pictures]
    columns = min(len(pictures), 4)
    rows = -(-len(pictures) // columns)
    width, height = max(w for w, _ in sizes), max(h for _, h in sizes)
    seen = sorted({int(v) for p in pictures for m in (p.labels, p.truth) if m is not None for v in np.unique(m)} - {0})
    across = max(1, columns * width // 180)
    legend = 22 * -(-(len(seen) + 1) // across) + 20
    total = rows * (height + TITLE) + legend
    figure = Figure(figsize=(columns * width / DPI, total / DPI), dpi=DPI, facecolor="black")
    canvas = FigureCanvasAgg(figure)
    for i, picture in enumerate(pictures):
        _draw(figure.add_subplot(rows, columns, i + 1), picture)
    handles: list[Patch | Line2D] = [Patch(color=colour(v), label=drawn_name(names.get(v, f"label {v}"))) for v in seen]
    if any(p.truth is not None for p in pictures):
        handles.append(Line2D([], [], color="white", linestyle="--", label="truth"))
    if handles:
        style = {"loc": "lower center", "fontsize": 9, "frameon": False, "labelcolor": "white"}
        figure.legend(handles=handles, ncols=across, **style)
    edges = {"left": 0, "right": 1, "top": 1 - TITLE / total, "bottom": legend / total}
    figure.subplots_adjust(**edges, hspace=TITLE / height, wspace=0.01)
    canvas.print_png(str(path))


def colour(value: int) -> tuple[float, float, float]:
    """Red, green and blue of a label, the same in every picture."""
    if value <= len(COLOURS):
        return to_rgb(COLOURS[value - 1])
    # Steps of the golden ratio keep any number of hues apart.
    return colorsys.hsv_to_rgb((value * 0.618034) % 1, 0.75, 1.0)


def _reduced(picture: Picture) -> Picture:
    """With every second, third, ... pixel of an image that is larger than it is shown: outlines take time."""
    step = -(-max(picture.labels.shape) // LONGEST)
    if step == 1:
        return picture
    thin = slice(None, None, step), slice(None, None, step)
    return replace(
        picture,
        image=picture.image[thin],
        labels=picture.labels[thin],
        truth=None if picture.truth is None else picture.truth[thin],
        points=[((x / step, y / step), label) for (x, y), label in picture.points],
        boxes=[tuple(edge / step for edge in box) for box in picture.boxes],
    )


def _shown_size(picture: Picture) -> tuple[int, int]:
    """Width and height in pixels of the PNG."""
    height, width = picture.labels.shape[0] * picture.aspect, picture.labels.shape[1]
    scale = min(max(1.0, SHORTEST / max(height, width)), LONGEST / max(height, width))
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _draw(axes, picture: Picture) -> None:
    image = picture.image if picture.image.ndim == 3 else picture.image[..., None].repeat(3, axis=-1)
    shown = image.astype(np.float32) / 255
    for value in np.unique(picture.labels[picture.labels > 0]):
        inside = picture.labels == value
        shown[inside] = 0.65 * shown[inside] + 0.35 * np.asarray(colour(int(value)))
    axes.imshow(shown.clip(0, 1), interpolation="nearest", aspect=picture.aspect)
    _outline(axes, picture.labels, "solid")
    if picture.truth is not None:
        _outline(axes, picture.truth, "dashed")
    for (x, y), label in picture.points:
        marker, ink = ("+", "#40ff40") if label else ("x", "#ff4040")
        axes.plot(x, y, marker, color=ink, ms=11, mew=2.2)
    for left, top, right, bottom in picture.boxes:
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color="#40ff40", linewidth=1.4)
    axes.set_xlim(-0.5, picture.labels.shape[1] - 0.5)
    axes.set_ylim(picture.labels.shape[0] - 0.5, -0.5)
    axes.set_title(drawn_name(picture.title), color="white", fontsize=9, pad=3)
    axes.axis("off")


def _outline(axes, labels: np.ndarray, style: str) -> None:
    for value in np.unique(labels[labels > 0]):
        # A frame of background closes the lines at the image's edge, and makes a single row wide enough for one.
        drawn = np.pad((labels == value).astype(np.float32), 1)
        at = [np.arange(-1, n - 1) for n in drawn.shape]
        axes.contour(at[1], at[0], drawn, levels=[0.5], colors=[colour(int(value))], linewidths=1.3, linestyles=style)
