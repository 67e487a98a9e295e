# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What was segmented, how large it is and how it was found, for people and clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..common.digits import rounded
from ..common.geometry import Grid
from .label_map import object_logits
from .scene import Scene
from .search import Look, View, cubes_looked_at, making_up_the_mask
from .target import Target, last_mask

IGNORED = "clicks that the network did not follow: {}; the mask was set right around them"


def summarise(
    scene: Scene,
    targets: Sequence[Target],
    seen: Sequence[Sequence[View]],
    voxels: Sequence[int],
    scores: Sequence[float | None],
) -> dict[str, Any]:
    """A dictionary of plain JSON types.

    Args:
        scene: the volume.
        targets: the objects.
        seen: of each object, in the order in which it was seen.
        voxels: of each label, 0 included.
        scores: predicted IoU of each object.
    """
    voxel_ml = abs(float(np.linalg.det(scene.grid.affine[:3, :3]))) / 1000
    objects = enumerate(zip(targets, seen, scores, strict=True), start=1)
    return {
        "label_names": {str(i): t.prompt.name for i, t in enumerate(targets, start=1)},
        "objects": [_describe(scene, i, t, s, voxels[i], voxels[i] * voxel_ml, iou) for i, (t, s, iou) in objects],
        "notes": scene.notes,
    }


def _describe(
    scene: Scene,
    value: int,
    target: Target,
    seen: Sequence[View],
    voxels: int,
    volume_ml: float,
    score: float | None,
) -> dict[str, Any]:
    views, looks = making_up_the_mask(seen), cubes_looked_at(seen)
    prompt = target.prompt
    notes = [*prompt.notes, *target.notes]
    if ignored := max(v.ignored for v in views):
        notes.append(IGNORED.format(ignored))
    notes += [
        f"the click at {list(point)} lies in none of the cubes and had no effect"
        for point in prompt.points
        if not any(look.cube.holds(scene.grid.to_mm(np.array(point))) for look in looks)
    ]
    if not voxels:
        notes.append(_why_empty(scene, target, views))
    return {
        "name": prompt.name,
        "label": value,
        "voxels": voxels,
        "volume_ml": rounded(volume_ml),
        # Nobody knows how good a mask is that was given and that no click changed.
        "predicted_iou": None if score is None else round(score, 4),
        "prompts": {
            "points": [list(p) for p in prompt.points],
            "point_labels": list(prompt.labels),
            "box": prompt.box,
            "scribble": prompt.scribble,
            "lasso": prompt.lasso,
            "previous_mask": prompt.previous_mask,
        },
        "cubes": [_describe_cube(look) for look in looks],
        "notes": notes,
    }


def _why_empty(scene: Scene, target: Target, views: Sequence[View]) -> str:
    """What to say of an object without a voxel."""
    if not target.has_mask and not any(v.bounds for v in views):
        return "the network found nothing at these prompts"
    alone = object_logits(views, scene.grid, scene.image.device, last_mask(scene, target))
    if bool((alone > 0).any()):
        return "other objects cover all of it"
    if target.has_mask:
        return "the clicks took all of the last mask away"
    return "what the network found lies between the voxels of the image and fills none of them"


def _describe_cube(look: Look) -> dict[str, Any]:
    cube: Grid = look.cube
    return {
        "spacing_mm": rounded(float(cube.spacing[0])),
        "voxels_a_side": cube.shape[0],
        "center_mm": [rounded(float(x), 2, cube.spacing[0]) for x in cube.center_mm],
        "why": look.why,
    }
