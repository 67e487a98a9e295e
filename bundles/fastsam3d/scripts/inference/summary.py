# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What was segmented, how large it is and how it was found, for people and clients."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..common.geometry import Grid
from .scene import Scene
from .targets import Target


def summarise(scene: Scene, targets: list[Target], voxels: list[int]) -> dict[str, Any]:
    """A dictionary of plain JSON types; ``voxels`` counts those of each label, 0 included."""
    voxel_ml = abs(float(np.linalg.det(scene.grid.affine[:3, :3]))) / 1000
    return {
        "label_names": {str(i): t.prompt.name for i, t in enumerate(targets, start=1)},
        "objects": [_describe(scene, i, t, voxels[i], voxels[i] * voxel_ml) for i, t in enumerate(targets, start=1)],
        "notes": scene.notes,
    }


def _describe(scene: Scene, value: int, target: Target, voxels: int, volume_ml: float) -> dict[str, Any]:
    notes = target.notes + [
        f"the click at {list(point)} lies in none of the cubes and had no effect"
        for point in target.prompt.points
        if not any(cube.holds(scene.grid.to_mm(np.array(point))) for cube, _ in target.looks)
    ]
    if not voxels:
        found = any(v.bounds for v in target.views)
        notes.append("other objects cover all of it" if found else "the network found nothing at these prompts")
    prompt = target.prompt
    return {
        "name": prompt.name,
        "label": value,
        "voxels": voxels,
        "volume_ml": round(volume_ml, 4),
        "predicted_iou": round(min(1.0, max(0.0, target.views[0].score)), 4),
        "prompts": {
            "points": [list(p) for p in prompt.points],
            "point_labels": list(prompt.labels),
            "box": prompt.box,
            "scribble": prompt.scribble,
            "previous_mask": prompt.previous_mask,
        },
        "cubes": [_describe_cube(cube, why) for cube, why in target.looks],
        "notes": notes,
    }


def _describe_cube(cube: Grid, why: str) -> dict[str, Any]:
    return {
        "spacing_mm": round(float(cube.spacing[0]), 4),
        "voxels_a_side": cube.shape[0],
        "center_mm": [round(float(x), 2) for x in cube.center_mm],
        "why": why,
    }
