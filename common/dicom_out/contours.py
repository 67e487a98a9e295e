# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Masks as closed polygons, slice by slice."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial.distance import cdist


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Polygons (n, 2) in indices, open, that hold the centres of a mask's pixels and of no others.

    They run halfway between the pixels inside and those outside. Pixels that touch by a corner alone are polygons of
    their own. A hole is cut in by a keyhole: a slit of no width from the outer line to that of the hole and back.

    Args:
        mask: (X, Y) bool.
    """
    from skimage.measure import find_contours

    parts, count = ndimage.label(mask)
    polygons = []
    for number, box in zip(range(1, count + 1), ndimage.find_objects(parts), strict=True):
        part = np.pad(parts[box] == number, 1)
        lines = [line[:-1] for line in find_contours(part.astype(np.float32), 0.5, fully_connected="low")]
        outer, *holes = sorted(lines, key=_area, reverse=True)
        polygons.append(_plain(_keyholed(outer, holes)) + [box[0].start - 1, box[1].start - 1])
    return polygons


def _area(ring: np.ndarray) -> float:
    x, y = ring.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def _keyholed(ring: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """One ring of all: the nearest hole first, so that no slit crosses another hole."""
    ring, holes = _with_middles(ring), [_with_middles(hole) for hole in holes]
    while holes:
        distances = [cdist(ring, hole, "sqeuclidean") for hole in holes]
        nearest = int(np.argmin([d.min() for d in distances]))
        hole = holes.pop(nearest)
        at, start = _slit(ring, hole, distances[nearest])
        turned = np.roll(hole, -start, axis=0)
        ring = np.concatenate([ring[: at + 1], turned, turned[:1], ring[at:]])
    return ring


def _with_middles(ring: np.ndarray) -> np.ndarray:
    """With the middle of each side as a vertex too."""
    middles = (ring + np.roll(ring, -1, axis=0)) / 2
    return np.stack([ring, middles], axis=1).reshape(-1, 2)


def _slit(ring: np.ndarray, hole: np.ndarray, distances: np.ndarray) -> tuple[int, int]:
    """The shortest way that goes through no pixel's centre, of which readers could not tell the side."""
    nearest = distances.min()
    near = np.argwhere(distances <= nearest + 2 * np.sqrt(nearest) + 1)
    near = near[np.argsort(distances[tuple(near.T)], kind="stable")]
    return tuple(next((pair for pair in near if not _meets_a_centre(ring[pair[0]], hole[pair[1]])), near[0]))


def _meets_a_centre(start: np.ndarray, end: np.ndarray) -> bool:
    low, high = np.ceil(np.minimum(start, end)).astype(int), np.floor(np.maximum(start, end)).astype(int)
    centres = np.stack(np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high, strict=True))), axis=-1)
    to, way = centres.reshape(-1, 2) - start, end - start
    return bool((to[:, 0] * way[1] == to[:, 1] * way[0]).any())


def _plain(ring: np.ndarray) -> np.ndarray:
    """Without vertices on a straight line between their neighbours; those where it turns back stay."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return ring[(turns != 0) | ((before * after).sum(axis=1) <= 0)]
