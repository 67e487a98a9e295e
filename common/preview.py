# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A picture of a mask: three planes through a voxel, with contours and clicks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .drawn_names import drawn_name
from .geometry import Grid

COLOURS = ("#ffb000", "#00c2ff", "#ff4f9a", "#7fdd4c", "#b48cff", "#ff7043", "#ffee58", "#26a69a")
# For each plane, in RAS space: the axis looked along, the axis from left to right, the axis from bottom to top.
PLANES = (("axial", 2, 0, 1), ("coronal", 1, 0, 2), ("sagittal", 0, 1, 2))


def save_preview(
    path: str | Path,
    image: np.ndarray,
    labels: np.ndarray,
    grid: Grid,
    window: tuple[float, float],
    names: Sequence[str],
    clicks: Sequence[tuple[Sequence[float], int]],
    voxel: Sequence[float],
    truth: np.ndarray | None = None,
) -> None:
    """Write a PNG of the planes through ``voxel``, seen from the patient's front, feet and left, to scale.

    Args:
        path: of the PNG.
        image: (X, Y, Z) intensities on ``grid``.
        labels: (X, Y, Z) label map on ``grid``; 0 is background.
        grid: where the voxels lie. Oblique volumes are shown along their stored axes.
        window: intensities shown black and white.
        names: of the labels 1, 2, ...
        clicks: voxel indices and label (1 foreground, 0 background) of each click.
        voxel: through which the planes go.
        truth: (X, Y, Z) mask that is outlined in white, broken lines, for comparison.
    """
    order, flips = _nearest_axes(grid)
    figure = Figure(figsize=(12, 4.6), dpi=110, facecolor="black")
    canvas = FigureCanvasAgg(figure)
    for i, (name, along, across, up) in enumerate(PLANES):
        axes = figure.add_subplot(1, 3, i + 1)
        depth = int(np.clip(round(voxel[order[along]]), 0, grid.shape[order[along]] - 1))
        plane = [slice(None)] * 3
        plane[order[along]] = depth
        picture, mask = image[tuple(plane)], labels[tuple(plane)]
        if order[across] > order[up]:
            picture, mask = picture.T, mask.T
        # Radiological convention: the patient's right, or in sagittal planes the front, on the left.
        aspect = grid.spacing[order[up]] / grid.spacing[order[across]]
        show = {"origin": "lower", "aspect": aspect, "interpolation": "nearest"}
        axes.imshow(picture.T, cmap="gray", vmin=window[0], vmax=window[1], **show)
        for value, _ in enumerate(names, start=1):
            _outline(axes, mask == value, COLOURS[(value - 1) % len(COLOURS)])
        if truth is not None:
            inside = truth[tuple(plane)] != 0
            _outline(axes, inside.T if order[across] > order[up] else inside, "white", "dashed")
        thickness = max(1.0, 3.0 / grid.spacing[order[along]])
        for point, label in clicks:
            if abs(point[order[along]] - depth) <= thickness:
                marker, colour = ("+", "#40ff40") if label else ("x", "#ff4040")
                axes.plot(point[order[across]], point[order[up]], marker, color=colour, ms=11, mew=2.2)
        if not flips[across]:
            axes.invert_xaxis()
        if flips[up]:
            axes.invert_yaxis()
        axes.set_title(f"{name}, slice {depth}", color="white", fontsize=10)
        axes.axis("off")
    for value, name in enumerate(names[:24], start=1):
        colour = COLOURS[(value - 1) % len(COLOURS)]
        place = 0.02 + 0.12 * ((value - 1) % 8), 0.06 - 0.025 * ((value - 1) // 8)
        figure.text(*place, drawn_name(name), color=colour, fontsize=10)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.92, bottom=0.1, wspace=0.03)
    canvas.print_png(str(path))


def _outline(axes: Axes, mask: np.ndarray, colour: str, style: str = "solid") -> None:
    if mask.any():
        # A frame of background closes contours at the image's edge, and makes a single row wide enough for one.
        drawn = np.pad(mask.T.astype(float), 1)
        at = [np.arange(-1, n - 1) for n in drawn.shape]
        axes.contour(at[1], at[0], drawn, levels=[0.5], colors=[colour], linewidths=1.4, linestyles=style)


def _nearest_axes(grid: Grid) -> tuple[list[int], list[bool]]:
    """For R, A, S: the stored axis nearest to it, and whether that one runs the other way."""
    direction = grid.affine[:3, :3] / grid.spacing
    order: list[int] = []
    left = [0, 1, 2]
    for world in (2, 1, 0):
        stored = max(left, key=lambda k: abs(direction[world, k]))
        left.remove(stored)
        order.insert(0, stored)
    return order, [bool(direction[world, order[world]] < 0) for world in range(3)]
