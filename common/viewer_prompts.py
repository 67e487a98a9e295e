# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Prompts in the words of viewers, brought into those of :mod:`.prompts`.

3D Slicer's MONAI Label module sends a region of interest as ``roi``, and strokes as an uploaded label map of all
segments, whose file the server names as ``label``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

# How Slicer's module names the segments that are drawn on.
STROKES = {"foreground_scribbles": 1, "background_scribbles": 2}


def from_viewer(data: Mapping[str, Any], shape: Sequence[int]) -> dict[str, Any]:
    """``data`` with ``roi`` as ``box`` and an uploaded label map as ``scribble``, where there are any.

    Args:
        data: of a request; what it says in our own words comes first.
        shape: voxels of the stored volume along its three axes.

    Raises:
        ValueError: a ``roi`` of another form, or wholly outside the volume.
    """
    given = dict(data)
    if given.get("roi") and not given.get("box"):
        given["box"] = box_of_roi(given["roi"], shape)
    label = given.get("label")
    if isinstance(label, str) and os.path.isfile(label):
        given["label"] = given.get("selected_label_name")
        given["scribble"] = given.get("scribble") or label
    return given


def box_of_roi(roi: Any, shape: Sequence[int]) -> list[list[float]]:
    """Lowest and highest voxel of ``[i, i, j, j, k, k]``, cut off at the volume's faces.

    A viewer whose axes run against the file's sends the larger index first.
    """
    if not isinstance(roi, (list, tuple)) or len(roi) != 6 or not all(isinstance(x, (int, float)) for x in roi):
        raise ValueError(f"roi is {roi!r}: expected [i, i, j, j, k, k], the voxels of two opposite corners")
    pairs = [sorted(roi[i : i + 2]) for i in (0, 2, 4)]
    if any(high < 0 or low > n - 1 for (low, high), n in zip(pairs, shape, strict=True)):
        last = [n - 1 for n in shape]
        raise ValueError(f"roi {roi!r} lies outside the volume: expected voxels between [0, 0, 0] and {last}")
    return [[max(low, 0) for low, _ in pairs], [min(high, n - 1) for (_, high), n in zip(pairs, shape, strict=True)]]


def stroke_values(data: Mapping[str, Any]) -> dict[int, int]:
    """For each value of an uploaded label map what it is to us (1 object, 2 background); empty where that is given.

    Raises:
        ValueError: segments are named, none of them for strokes on the object.
    """
    segments = data.get("label_info")
    if not segments:
        return {}
    values = {int(s["id"]): STROKES[s["name"]] for s in segments if s.get("name") in STROKES}
    if 1 not in values.values():
        raise ValueError(f"label_info names {[s.get('name') for s in segments]}: expected foreground_scribbles in it")
    return values
