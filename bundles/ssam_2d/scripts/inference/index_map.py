# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The masks of one image brought onto its own pixels: the index map, and what is measured on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..common.digits import rounded
from ..common.prompts import ObjectPrompt
from .scene import Scene
from .targets import Target


@dataclass
class IndexMap:
    """The label of each pixel: where several labels claim it, the one of the highest probability.

    Attributes:
        labels: (n, H, W) uint8, or int32 where a value is above 255.
        probability: (n, H, W) of the label that won, the threshold where none did.
        all: (K, n, H, W) of every target in their order, None unless they are kept.
        highest, predicted_iou: by value, over all slices.
    """

    labels: Tensor
    probability: Tensor
    all: Tensor | None
    highest: dict[int, float] = field(default_factory=dict)
    predicted_iou: dict[int, float] = field(default_factory=dict)

    @classmethod
    def empty(cls, scene: Scene, targets: list[Target], threshold: float, keep_all: bool) -> IndexMap:
        """Nothing found yet."""
        size = (len(scene.slices), *scene.shape)
        device = scene.slices.device
        dtype = torch.uint8 if max(target.value for target in targets) < 256 else torch.int32
        every = torch.zeros(len(targets), *size, device=device) if keep_all else None
        return cls(torch.zeros(size, dtype=dtype, device=device), torch.full(size, threshold, device=device), every)

    def add(self, index: int, target: Target, place: int, logits: Tensor, iou: float) -> None:
        """A target's logits (H, W) in one slice; ``place`` is that among all targets."""
        found = logits.sigmoid()
        won = found > self.probability[index]
        self.labels[index][won] = target.value
        self.probability[index] = torch.maximum(self.probability[index], found)
        if self.all is not None:
            self.all[place, index] = found
        highest = float(found.max())
        if highest >= self.highest.get(target.value, -1.0):
            self.highest[target.value], self.predicted_iou[target.value] = highest, iou


def summarise(scene: Scene, targets: list[Target], found: IndexMap) -> dict[str, Any]:
    """A dictionary of plain JSON types: names, areas or volumes, scores, prompts.

    The score of a label is the mean probability of its pixels, or the highest of all where it has none.
    """
    size = max(target.value for target in targets) + 1
    counts, sums = torch.zeros(size, dtype=torch.long), torch.zeros(size, dtype=torch.double)
    # Slice by slice: counting takes copies of eight bytes a pixel.
    for labels, probability in zip(found.labels, found.probability, strict=True):
        flat, weights = labels.flatten().long(), probability.flatten().double()
        counts += torch.bincount(flat, minlength=size).cpu()
        sums += torch.bincount(flat, weights=weights, minlength=size).cpu()
    objects = []
    for target in targets:
        count = int(counts[target.value])
        score = float(sums[target.value]) / count if count else found.highest.get(target.value, 0.0)
        described = {
            "name": target.name,
            "label": target.value,
            **sizes(scene, count),
            "score": round(score, 4),
            "predicted_iou": round(min(1.0, max(0.0, found.predicted_iou.get(target.value, 0.0))), 4),
        }
        if target.adapter:
            described["adapter"] = target.adapter
        if target.prompt:
            described["prompts"] = {**given(scene, target.prompt), "by_name": target.features is not None}
        objects.append(described)
    return {
        "label_names": {str(t.value): t.name for t in targets},
        "objects": objects,
        "slices": len(scene.slices),
        "notes": [*scene.notes, *(f"{t.name}: {note}" for t in targets if t.prompt for note in t.prompt.notes)],
    }


def given(scene: Scene, prompt: ObjectPrompt) -> dict[str, Any]:
    """Clicks and box as they were asked for: two indices in a 2D image, three in a volume."""
    count = 2 if scene.plane is None else 3
    return {
        "points": [list(point[:count]) for point in prompt.points],
        "point_labels": list(prompt.labels),
        "box": [list(corner[:count]) for corner in prompt.box] if prompt.box else None,
    }


def sizes(scene: Scene, count: int) -> dict[str, Any]:
    """Pixels and mm2, or voxels and mL; None where the spacing is not known."""
    columns, rows, _ = scene.spacing
    if scene.plane is None:
        return {"area_px": count, "area_mm2": rounded(count * columns * rows, 3) if columns * rows else None}
    return {"voxels": count, "volume_ml": rounded(count * scene.voxel_mm3 / 1000) if scene.voxel_mm3 else None}
