# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The made-up and real volumes that train the shipped weights, and the cubes that are cut out of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from bundles.fastsam3d.scripts.inference.zoom import first_spacing
from bundles.fastsam3d.scripts.training.cubes import Cube, Volume, random_cube
from common.geometry import Grid
from common.intensity import intensity_bounds
from tools.labelled_volumes import real_volumes
from tools.research.synthetic_volumes import paint, synthetic_volume

# How often a real volume of each set is drawn, relative to the others.
SHARES = {
    "totalseg_ct": 5,
    "totalseg_slab": 1,
    "sts_sarcoma": 3,
    "msd_hippocampus": 2,
    "sct_spinalcord": 1,
    "pyradiomics": 1,
}
# How many of the cubes are of real volumes, where there are any.
REAL_SHARE = 0.4
# Cubes with more voxels a side than this are for objects that fill many; how many of them show a large one.
SMALL, LARGE_SHARE = 64, 0.5
# How many cubes of real volumes keep the body's axes: what lies where in a body is worth knowing.
UPRIGHT = 0.85
# Made-up volumes have voxels of 1 mm.
MADE_UP_SPACINGS = (0.55, 1.6)


def made_up_volume(rng: np.random.Generator, size: int) -> Volume:
    """A made-up volume of about ``size`` voxels a side, at 1 mm."""
    made = synthetic_volume(rng, rng.integers(int(0.6 * size), int(1.1 * size), 3))
    image = torch.from_numpy(made.image)[None]
    grid = Grid(np.eye(4), made.image.shape)
    return Volume(image, torch.from_numpy(made.labels)[None], grid, intensity_bounds(image), made.targets, "synthetic")


def repainted(volume: Volume, rng: np.random.Generator) -> Volume:
    """The same anatomy in made-up intensities; what has no label is told apart by its intensity."""
    low, high = volume.bounds
    tissue = torch.bucketize(volume.image, torch.linspace(low, high, 5)[1:-1])
    top = int(volume.labels.max())
    regions = torch.where(volume.labels > 0, volume.labels, (top + tissue).to(torch.uint8))
    regions = torch.where((volume.labels == 0) & (tissue == 0), 0, regions)
    image = torch.from_numpy(paint(regions[0].numpy(), rng))[None]
    return volume._replace(image=image, bounds=intensity_bounds(image))


class TrainingCubes(torch.utils.data.Dataset):
    """Cubes by number: the same seed and number give the same cube.

    Args:
        folder: real sets, see :func:`real_volumes`; None for made-up volumes alone.
        seed: of everything random.
        objects: in each cube.
        real: share of the cubes that are of real volumes.
        shares: how often each of their sets is drawn, see ``SHARES``.
    """

    def __init__(
        self,
        folder: Path | None,
        seed: int,
        objects: int = 4,
        real: float = REAL_SHARE,
        shares: Mapping[str, float] = SHARES,
    ) -> None:
        self.volumes = list(real_volumes(folder)) if folder else []
        self.seed = seed
        self.objects = objects
        self.real = real
        sets = [v.name.split("/")[0] for v in self.volumes]
        weights = np.array([shares[s] / sets.count(s) for s in sets])
        self.weights = weights / weights.sum() if sets else weights

    def __getitem__(self, item: tuple[int, int]) -> Cube:
        """``(number, size)`` -> the cube of that number with ``size`` voxels a side."""
        number, size = item
        rng = np.random.default_rng((self.seed, number))
        while True:
            if self.volumes and rng.random() < self.real:
                volume = self.volumes[rng.choice(len(self.volumes), p=self.weights)]
                if len(volume.targets) > 8 and rng.random() < 0.3:
                    volume = repainted(volume, rng)
            else:
                volume = made_up_volume(rng, size)
            cube = self._cube(volume, rng, size)
            if cube is not None:
                return cube

    def _cube(self, volume: Volume, rng: np.random.Generator, size: int) -> Cube | None:
        large = LARGE_SHARE if size > SMALL else 0.25
        usual = first_spacing(volume.grid, size, 1.5 * 128 / size)
        if volume.name == "synthetic":
            return random_cube(volume, rng, size, self.objects, usual, MADE_UP_SPACINGS, large_share=large)
        return random_cube(volume, rng, size, self.objects, usual, large_share=large, upright=UPRIGHT)
