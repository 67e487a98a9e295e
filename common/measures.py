# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Sizes of a mask and the intensities in it, as numbers with units."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from .digits import rounded
from .geometry import Grid
from .planes import Plane
from .surface import border_of, placed, smoothed


def measures(mask: np.ndarray, grid: Grid, image: np.ndarray, unit: str | None = None) -> dict[str, Any]:
    """What is said of an object of a volume in the description of a result, plain JSON; ``{}`` without a voxel.

    - ``surface_cm2``: of the smoothed surface, see :func:`.surface.surface_of`.
    - ``longest_diameter_mm``: between any two points of the surface, before it is smoothed.
    - ``axial_diameter_mm``: the longest diameter in one slice, and ``axial_across_mm``, the longest line at a right
      angle to it in the same slice, both of the hull of all its parts there (RECIST measures a lesion so);
      ``axial_slice``, the slice's index. The slices are those of the stored grid that are nearest to axial.
    - ``intensity``: see :func:`intensities`.

    Args:
        mask: (X, Y, Z) bool.
        grid: where its voxels lie.
        image: (X, Y, Z).
        unit: of the image's values; None or empty where the file does not say.
    """
    if not mask.any():
        return {}
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    part, cut = mask[box], grid.crop([s.start for s in box], [s.stop for s in box])
    longest, across, index, axis = _axial(part, cut)
    border, faces = border_of(part)
    return {
        "surface_cm2": rounded(placed(smoothed(border, faces), faces, cut).area_mm2 / 100),
        "longest_diameter_mm": rounded(_longest(cut.to_mm(border))),
        "axial_diameter_mm": rounded(longest),
        "axial_across_mm": rounded(across),
        "axial_slice": index + box[axis].start,
        "intensity": intensities(image[box][part], unit),
    }


def picture_measures(
    mask: np.ndarray, spacing: tuple[float, float] | None, image: np.ndarray | None, unit: str | None = None
) -> dict[str, Any]:
    """The same of an object of a 2D image, ``{}`` without a pixel: ``diameter_mm`` and ``across_mm``, the longest
    diameter and the longest line across it, or the same in ``_px``; and ``intensity`` of grey images.

    Args:
        mask: (H, W) bool.
        spacing: mm between rows and between columns; None where the file does not say.
        image: (H, W); None for colours.
        unit: see :func:`measures`.
    """
    if not mask.any():
        return {}
    found = zip(("diameter", "across"), _diameters(mask, np.diag(spacing or (1.0, 1.0))), strict=True)
    described: dict[str, Any] = {f"{name}_{'mm' if spacing else 'px'}": rounded(v) for name, v in found}
    return described if image is None else {**described, "intensity": intensities(image[mask], unit)}


def intensities(values: np.ndarray, unit: str | None = None) -> dict[str, Any]:
    """Mean, standard deviation, lowest and highest of an object's values as the file has them, and their unit."""
    values = values.astype(np.float64)
    described = {"mean": values.mean(), "sd": values.std(), "lowest": values.min(), "highest": values.max()}
    return {**{k: rounded(float(v)) for k, v in described.items()}, "unit": unit or "as stored"}


def _axial(mask: np.ndarray, grid: Grid) -> tuple[float, float, int, int]:
    """mm: the longest diameter in a slice and the longest line across it; the slice's index, and along which axis."""
    along = Plane.of(grid.affine, grid.shape, "axial").axes[2]
    first, second = (axis for axis in range(3) if axis != along)
    steps = grid.affine[:3, [first, second]].T
    best = (0.0, 0.0, 0)
    for index in np.flatnonzero(mask.any(axis=(first, second))):
        longest, across = _diameters(np.take(mask, index, axis=along), steps)
        best = max(best, (longest, across, int(index)), key=lambda found: found[0])
    return *best, along


def _diameters(mask: np.ndarray, steps: np.ndarray) -> tuple[float, float]:
    """mm: the longest diameter and the longest line across it, of outlines halfway between pixels inside and outside.

    Args:
        mask: (I, J) bool with a pixel inside.
        steps: (2, D) mm from a pixel to the next along each axis.
    """
    from skimage.measure import find_contours

    points = _flat(np.concatenate(find_contours(np.pad(mask, 1).astype(np.float32), 0.5)) @ steps)
    hull = points[ConvexHull(points).vertices]
    distances = squareform(pdist(hull))
    a, b = np.unravel_index(int(distances.argmax()), distances.shape)
    return float(distances[a, b]), _across(hull, hull[b] - hull[a])


def _longest(points: np.ndarray) -> float:
    hull = points[ConvexHull(points).vertices]
    return float(pdist(hull).max())


def _flat(points: np.ndarray) -> np.ndarray:
    """(n, 3) in a plane -> (n, 2) at the same distances; what is flat stays."""
    if points.shape[1] == 2:
        return points
    _, _, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    return points @ axes[:2].T


def _across(hull: np.ndarray, way: np.ndarray) -> float:
    """The longest chord of a convex polygon at a right angle to ``way``."""
    way = way / np.linalg.norm(way)
    along, off = hull @ way, hull @ np.array([-way[1], way[0]])
    first, last = int(along.argmin()), int(along.argmax())
    turned = np.roll(np.arange(len(hull)), -first)
    place = int(np.flatnonzero(turned == last)[0])
    one, other = turned[: place + 1], np.append(turned[place:], first)[::-1]
    # Two sides from the first to the last point; the chord is longest at a corner of either.
    sides = [np.interp(along, along[side], off[side]) for side in (one, other)]
    return float(np.abs(sides[0] - sides[1]).max())
