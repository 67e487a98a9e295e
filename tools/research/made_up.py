# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Made-up volumes among the real ones of a training of ``fastsam3d``; ``shipped_data.json`` switches them on."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, Transform
from torch import Tensor

from common.intensity import intensity_bounds
from tools.research.synthetic_volumes import paint, synthetic_volume

# Made-up volumes have voxels of 1 mm; the cubes that are cut out of them, voxels of so many mm.
SPACINGS = (0.55, 1.6)
# Anatomy with more objects than this is worth painting anew.
FEW_OBJECTS = 8


class MakeUpd(Randomizable, Transform):
    """An item of the training, or by chance a made-up volume in its place, or its anatomy in made-up intensities.

    It comes before ``DrawCubed``, and takes and gives the items of ``KeepTensorsd``.

    Args:
        share: how many of the items are made-up volumes.
        repainted: how many of the others get other intensities, of those that have many objects.

    Raises:
        ValueError: shares that are not from 0 to 1.
    """

    def __init__(self, share: float = 0.4, repainted: float = 0.3) -> None:
        if not 0 <= min(share, repainted) <= max(share, repainted) <= 1:
            raise ValueError(f"share {share}, repainted {repainted}: expected shares from 0 to 1")
        self.share = share
        self.repainted = repainted

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        rng = np.random.default_rng(int(self.R.randint(2**31)))
        if rng.random() < self.share:
            return {**made_up_volume(rng, data["size"]), "size": data["size"]}
        if len(data["targets"]) > FEW_OBJECTS and rng.random() < self.repainted:
            bounds = tuple(float(b) for b in data["bounds"])
            return {**data, **_with_bounds(repainted(data["image"], data["label"], bounds, rng))}
        return dict(data)


def made_up_volume(rng: np.random.Generator, size: int) -> dict[str, Any]:
    """An item of about ``size`` voxels a side, at 1 mm. What is nowhere upright is shown in any pose."""
    made = synthetic_volume(rng, rng.integers(int(0.6 * size), int(1.1 * size), 3))
    return {
        **_with_bounds(torch.from_numpy(made.image)[None]),
        "label": torch.from_numpy(made.labels)[None],
        "affine": torch.eye(4, dtype=torch.float64),
        "targets": made.targets,
        "name": "made up",
        "spacings": SPACINGS,
        "upright": 0.0,
    }


def repainted(image: Tensor, label: Tensor, bounds: tuple[float, float], rng: np.random.Generator) -> Tensor:
    """(1, X, Y, Z) the same anatomy in made-up intensities; what has no label is told apart by its intensity."""
    low, high = bounds
    tissue = torch.bucketize(image, torch.linspace(low, high, 5)[1:-1])
    regions = torch.where(label > 0, label, (int(label.max()) + tissue).to(torch.uint8))
    regions = torch.where((label == 0) & (tissue == 0), 0, regions)
    return torch.from_numpy(paint(regions[0].numpy(), rng))[None]


def _with_bounds(image: Tensor) -> dict[str, Tensor]:
    return {"image": image, "bounds": torch.tensor(intensity_bounds(image), dtype=torch.float64)}
