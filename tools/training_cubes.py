# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Cubes with objects to segment, cut out of made-up and of real volumes, for training weights that are shipped.

Only sets whose licence lets a shipped weight be trained on them are named here, and what is kept for validation is
never drawn from: the patient STS_006, the last 20 hippocampi by name, the MR slab of totalseg_example, the breast MR.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from monai.transforms import LoadImage
from torch import Tensor
from torch.nn import functional as F

from common.clicks import random_inner_point
from common.geometry import Grid, resample
from common.intensity import intensity_bounds, normalise
from tools.prepare_data.case import Choices
from tools.prepare_data.sets.samples_3d import DATA_SETS
from tools.synthetic_volumes import paint, random_rotation, synthetic_volume

# The sets by their folder: name in tools.prepare_data, which knows what is kept for validation.
SETS = {
    "totalseg_example": "totalseg_example",
    "sts_sarcoma": "sts_sarcoma",
    "msd_hippocampus": "hippocampus",
    "sct_spinalcord": "sct_spinalcord",
    "pyradiomics": "pyradiomics",
}
TOTALSEG = {"example_ct": "totalseg_ct", "example_ct_sm": "totalseg_slab", "example_mr_sm": "totalseg_mr"}
# How often a real volume of each set is drawn, relative to the others.
SHARES = {
    "totalseg_ct": 5,
    "totalseg_slab": 1,
    "sts_sarcoma": 3,
    "msd_hippocampus": 2,
    "sct_spinalcord": 1,
    "pyradiomics": 1,
}
REAL_SHARE = 0.4
# How many voxels of the cube an object must have to be asked for.
FEWEST_VOXELS = 120


class Volume(NamedTuple):
    """A labelled volume in memory.

    Attributes:
        image: (1, X, Y, Z) float32.
        labels: (1, X, Y, Z) uint8.
        grid: where the voxels lie.
        bounds: intensities that count, see :func:`common.intensity.intensity_bounds`.
        targets: objects, each the labels whose union it is.
        name: set and case.
    """

    image: Tensor
    labels: Tensor
    grid: Grid
    bounds: tuple[float, float]
    targets: tuple[tuple[int, ...], ...]
    name: str


class Cube(NamedTuple):
    """What the network sees, and K objects in it.

    Attributes:
        image: (1, S, S, S) normalised intensities.
        targets: (K, 1, S/2, S/2, S/2) share of each low-resolution voxel that belongs to the object.
        clicks: (K, 3) a voxel of the cube inside each object.
    """

    image: Tensor
    targets: Tensor
    clicks: Tensor


def real_volumes(folder: Path, validation: bool = False) -> list[Volume]:
    """The volumes of a data folder that may train shipped weights, or those kept for validation.

    Args:
        folder: holds the sets by name; sets that are missing are left out.
        validation: give what is kept for validation instead.
    """
    return [
        read_volume(image, label, name, names)
        for image, label, name, names, kept in _pairs(folder)
        if kept == validation
    ]


def _pairs(folder: Path) -> Iterator[tuple[Path, Path, str, dict[int, str], bool]]:
    for set_folder, set_name in SETS.items():
        if not (folder / set_folder).is_dir():
            continue
        found = DATA_SETS[set_name].find(folder / set_folder, Choices())
        for case in found.cases:
            name = TOTALSEG.get(case.name, f"{set_folder}/{case.name}")
            names = dict(case.label_names or found.labels)
            yield case.image, case.label.path, name, names, case.section == "validation"


def read_volume(image: Path, label: Path, name: str, names: dict[int, str]) -> Volume:
    """Read an image and its label map; ``names`` lets labels that share their first word be one object too."""
    load = LoadImage(image_only=True, ensure_channel_first=True)
    voxels, labels = load(image), load(label)
    grid = Grid(np.asarray(voxels.affine, dtype=np.float64), tuple(voxels.shape[1:]))
    voxels, labels = voxels.as_tensor().float(), labels.as_tensor().round().to(torch.uint8)
    present = [int(k) for k in labels.unique() if k]
    groups = {(k,) for k in present}
    words = {names.get(k, str(k)).split("_")[0] for k in present}
    groups |= {tuple(k for k in present if names.get(k, str(k)).split("_")[0] == word) for word in words}
    if len(present) <= 4:
        groups.add(tuple(present))
    return Volume(voxels, labels, grid, intensity_bounds(voxels), tuple(sorted(groups)), name)


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
    """

    def __init__(self, folder: Path | None, seed: int, objects: int = 4) -> None:
        self.volumes = real_volumes(folder) if folder else []
        self.seed = seed
        self.objects = objects
        sets = [v.name.split("/")[0] for v in self.volumes]
        weights = np.array([SHARES[s] / sets.count(s) for s in sets])
        self.weights = weights / weights.sum() if sets else weights

    def __getitem__(self, item: tuple[int, int]) -> Cube:
        """``(number, size)`` -> the cube of that number with ``size`` voxels a side."""
        number, size = item
        rng = np.random.default_rng((self.seed, number))
        while True:
            if self.volumes and rng.random() < REAL_SHARE:
                volume = self.volumes[rng.choice(len(self.volumes), p=self.weights)]
                if len(volume.targets) > 8 and rng.random() < 0.3:
                    volume = repainted(volume, rng)
            else:
                volume = made_up_volume(rng, size)
            cube = random_cube(volume, rng, size, self.objects)
            if cube is not None:
                return cube


def random_cube(volume: Volume, rng: np.random.Generator, size: int, objects: int) -> Cube | None:
    """A cube around a random object, in random pose, scale and intensities; None where the object got lost.

    Args:
        volume: where to cut.
        rng: where all chance comes from.
        size: voxels a side.
        objects: how many objects of the cube to ask for; the first is the one that it is centred on.
    """
    first = volume.targets[rng.integers(len(volume.targets))]
    # Every second voxel is enough to find a place to click.
    mask = _union(volume.labels[0, ::2, ::2, ::2], first)
    step = 2
    if not mask.any():
        mask, step = _union(volume.labels[0], first), 1
    voxels = mask.nonzero().numpy() * step
    extent = float(((np.ptp(voxels, axis=0) + step) * volume.grid.spacing).max())
    click = random_point(mask.numpy(), rng) * step
    grid = _random_grid(volume.grid, rng, size, click, extent, volume.name == "synthetic")
    image, inside = resample(volume.image, volume.grid, grid)
    labels = resample(volume.labels, volume.grid, grid, mode="nearest")[0][0].to(torch.uint8) * inside
    counts = torch.bincount(labels.reshape(-1), minlength=256)
    visible = [t for t in volume.targets if counts[list(t)].sum() >= FEWEST_VOXELS]
    if first not in visible:
        return None
    others = [visible[i] for i in rng.permutation(len(visible)) if visible[i] != first]
    chosen = [first, *others, *[first] * objects][:objects]
    masks = torch.stack([_union(labels, t) for t in chosen])[:, None]
    targets = F.avg_pool3d(masks.float(), 2)
    clicks = [
        2 * random_point((t > min(0.5, float(t.max()) / 2)).numpy(), rng) + rng.integers(0, 2, 3) for t in targets[:, 0]
    ]
    return Cube(_random_look(image, inside, volume.bounds, rng), targets, torch.tensor(np.array(clicks)))


def random_point(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(3,) a voxel of the mask, three times of four in its inner part."""
    if rng.random() < 0.75:
        return np.array(random_inner_point(mask, rng))
    voxels = np.flatnonzero(mask)
    return np.array(np.unravel_index(rng.choice(voxels), mask.shape))


def _union(labels: Tensor, target: Sequence[int]) -> Tensor:
    table = torch.zeros(256, dtype=torch.bool)
    table[list(target)] = True
    return table[labels.long()]


def _random_grid(
    source: Grid, rng: np.random.Generator, size: int, click: np.ndarray, extent: float, made_up: bool
) -> Grid:
    """A cube of random scale and pose, the click in its middle or not far from it."""
    scale = size / 128
    large = rng.uniform(70, 150) * scale
    wanted = large if rng.random() < 0.25 else np.exp(rng.uniform(np.log(9), np.log(150 * scale)))
    spacing = extent / wanted
    if made_up:
        spacing = np.clip(spacing, 0.55, 1.6)
    elif rng.random() < 0.3:
        spacing = 1.5 / scale
    else:
        spacing = np.clip(spacing, 0.4 * source.spacing.min(), 2 * source.spacing.max() / scale)
    axes = np.eye(3)
    if rng.random() < 0.5:
        axes = axes[rng.permutation(3)]
    axes = axes * rng.choice([-1, 1], 3) * np.exp(rng.normal(0, 0.1, 3))
    if rng.random() < 0.6:
        axes = random_rotation(rng, 0.5) @ axes
    shift = rng.uniform(-0.15, 0.15, 3) * size * (rng.random() < 0.5)
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = source.to_mm(click) - affine[:3, :3] @ ((size - 1) / 2 + shift)
    return Grid(affine, (size, size, size))


def _random_look(image: Tensor, inside: Tensor, bounds: tuple[float, float], rng: np.random.Generator) -> Tensor:
    """Intensities as at inference, with other bounds, gamma, inversion and noise by chance."""
    low, high = bounds
    if rng.random() < 0.5:
        low, high = (b + rng.uniform(-0.12, 0.12) * (bounds[1] - bounds[0]) for b in bounds)
    image = ((image - low) / (high - low)).clamp(0, 1)
    if rng.random() < 0.4:
        image = image ** np.exp(rng.normal(0, 0.35))
    if rng.random() < 0.1:
        image = 1 - image
    if rng.random() < 0.3:
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        image = image + rng.uniform(0, 0.08) * torch.randn(image.shape, generator=generator)
    return normalise(image, inside, (0.0, 1.0))
