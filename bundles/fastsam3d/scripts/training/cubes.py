# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Cubes with objects to segment, cut from labelled volumes at a random place, pose, scale and intensity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..common.clicks import deepest_point, random_inner_point
from ..common.geometry import Grid, cube_around, random_rotation, resample
from ..common.intensity import NORMALISATIONS, normalise

# How many voxels of the cube an object must have to be asked for.
FEWEST_VOXELS = 120
# An object that got lost is looked for again, each time content with half as many voxels.
ATTEMPTS = 24
# Cubes with more voxels a side than this are for objects that fill many; how many of them show a large one, and how
# many of the others.
SMALL, LARGE_SHARE, LARGE_SHARE_OF_SMALL = 64, 0.5, 0.25
# How often a random point of an object lies in its inner part, and not anywhere in it.
INNER_SHARE = 0.75


class Volume(NamedTuple):
    """A labelled volume in memory.

    Attributes:
        image: (1, X, Y, Z) float32.
        labels: (1, X, Y, Z) uint8.
        grid: where the voxels lie.
        bounds: intensities that count, see :func:`..common.intensity.intensity_bounds`.
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
        targets: (K, 1, S, S, S) uint8, 1 in the object.
    """

    image: Tensor
    targets: Tensor


def drawn_cube(
    volume: Volume,
    rng: np.random.Generator,
    size: int,
    objects: int,
    spacing: float,
    normalisation: str = "clipped",
    upright: float = 0.0,
    spacings: tuple[float, float] | None = None,
) -> Cube:
    """:func:`random_cube`, tried until an object of the volume is in it.

    Raises:
        ValueError: objects too small to be found again in any cube.
    """
    large = LARGE_SHARE if size > SMALL else LARGE_SHARE_OF_SMALL
    for attempt in range(ATTEMPTS):
        fewest = max(1, FEWEST_VOXELS >> (attempt // 2))
        cube = random_cube(volume, rng, size, objects, spacing, spacings, fewest, normalisation, large, upright)
        if cube is not None:
            return cube
    raise ValueError(f"{volume.name}: no object was left in {ATTEMPTS} cubes of {size} voxels; expected larger objects")


def random_cube(
    volume: Volume,
    rng: np.random.Generator,
    size: int,
    objects: int,
    spacing: float,
    spacings: tuple[float, float] | None = None,
    fewest: int = FEWEST_VOXELS,
    normalisation: str = "clipped",
    large_share: float = LARGE_SHARE_OF_SMALL,
    upright: float = 0.0,
) -> Cube | None:
    """A cube around a random object, in random pose, scale and intensities; None where the object got lost.

    Args:
        volume: where to cut.
        rng: random numbers.
        size: voxels a side.
        objects: how many objects of the cube to ask for; the first is the one that it is centred on.
        spacing: mm between voxels of the cube that is shown first at inference; three of ten cubes have it.
        spacings: smallest and largest mm between voxels; None for what the volume's own spacing allows.
        fewest: voxels that an object must have in the cube.
        normalisation: ``clipped``, in random looks, or ``above_zero``, SAM-Med3D's, as the intensities are.
        large_share: how many of the cubes show their object about as large as themselves, of whatever size it is.
        upright: how many of the cubes keep the axes of the body, as at inference, but for a small turn; the others are
            mirrored, and have their axes exchanged, by chance.
    """
    first = volume.targets[rng.integers(len(volume.targets))]
    mask, step = _sparse_mask(volume, first)
    voxels = mask.nonzero().numpy() * step
    extent = float(((np.ptp(voxels, axis=0) + step) * volume.grid.spacing).max())
    click = random_point(mask.numpy(), rng) * step
    grid = _random_grid(volume.grid, rng, size, click, extent, spacing, spacings, large_share, upright)
    image, inside = resample(volume.image, volume.grid, grid)
    labels = resample(volume.labels, volume.grid, grid, mode="nearest")[0][0].to(torch.uint8) * inside
    counts = torch.bincount(labels.reshape(-1), minlength=256)
    visible = [t for t in volume.targets if counts[list(t)].sum() >= fewest]
    if first not in visible:
        return None
    others = [visible[i] for i in rng.permutation(len(visible)) if visible[i] != first]
    chosen = [first, *others, *[first] * objects][:objects]
    targets = torch.stack([_union(labels, t) for t in chosen])[:, None].to(torch.uint8)
    if normalisation != "clipped":
        return Cube(NORMALISATIONS[normalisation](image, inside, volume.bounds), targets)
    return Cube(_random_look(image, inside, volume.bounds, rng), targets)


def plain_cube(volume: Volume, target: Sequence[int], size: int, normalisation: str = "clipped") -> Cube:
    """The cube around the deepest point of an object that shows all of it, without random numbers: for validation."""
    mask, step = _sparse_mask(volume, target)
    voxels = mask.nonzero().numpy() * step
    extent = float(((np.ptp(voxels, axis=0) + step) * volume.grid.spacing).max())
    center = volume.grid.to_mm(np.array(deepest_point(mask.numpy())) * step)
    spacing = max(extent / (0.6 * size), float(volume.grid.spacing.min()) * 0.4)
    grid = cube_around(center, spacing, size)
    image, inside = resample(volume.image, volume.grid, grid)
    labels = resample(volume.labels, volume.grid, grid, mode="nearest")[0][0].to(torch.uint8) * inside
    target_mask = _union(labels, target)[None, None].to(torch.uint8)
    return Cube(NORMALISATIONS[normalisation](image, inside, volume.bounds), target_mask)


def joined_targets(present: Sequence[int], names: Mapping[int, str]) -> tuple[tuple[int, ...], ...]:
    """Each label, labels whose names share their first word together, and all of them where they are at most four."""
    groups = {(k,) for k in present}
    words = {k: names.get(k, str(k)).split("_")[0] for k in present}
    groups |= {tuple(k for k in present if words[k] == word) for word in words.values()}
    if 0 < len(present) <= 4:
        groups.add(tuple(present))
    return tuple(sorted(groups))


def random_point(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(3,) a voxel of the mask, three times of four in its inner part."""
    if rng.random() < INNER_SHARE:
        return np.array(random_inner_point(mask, rng))
    voxels = np.flatnonzero(mask)
    return np.array(np.unravel_index(rng.choice(voxels), mask.shape))


def _sparse_mask(volume: Volume, target: Sequence[int]) -> tuple[Tensor, int]:
    """Every second voxel is enough to find a place to click; the mask, and 2, or 1 where that missed the object."""
    mask = _union(volume.labels[0, ::2, ::2, ::2], target)
    return (mask, 2) if mask.any() else (_union(volume.labels[0], target), 1)


def _union(labels: Tensor, target: Sequence[int]) -> Tensor:
    table = torch.zeros(256, dtype=torch.bool)
    table[list(target)] = True
    return table[labels.long()]


def _random_grid(
    source: Grid,
    rng: np.random.Generator,
    size: int,
    click: np.ndarray,
    extent: float,
    usual: float,
    spacings: tuple[float, float] | None,
    large_share: float,
    upright: float,
) -> Grid:
    """A cube of random scale and pose, the click in its middle or not far from it."""
    scale = size / 128
    large = rng.uniform(70, 150) * scale
    wanted = large if rng.random() < large_share else np.exp(rng.uniform(np.log(9), np.log(150 * scale)))
    spacing = extent / wanted
    if spacings is not None:
        spacing = np.clip(spacing, *spacings)
    elif rng.random() < 0.3:
        spacing = usual
    else:
        spacing = np.clip(spacing, 0.4 * source.spacing.min(), 2 * source.spacing.max() / scale)
    axes = np.eye(3)
    # Nothing is drawn where all are turned: trainings that know no upright cubes stay as they are.
    turned = not upright or rng.random() < 1 - upright
    if turned:
        if rng.random() < 0.5:
            axes = axes[rng.permutation(3)]
        axes = axes * rng.choice([-1, 1], 3)
    axes = axes * np.exp(rng.normal(0, 0.1, 3))
    if rng.random() < 0.6:
        axes = random_rotation(rng, 0.5 if turned else 0.25) @ axes
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
