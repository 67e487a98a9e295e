# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Physical space: grids of voxels, cubes cut out of them, and the way between two grids.

World coordinates are millimetres in RAS, as in NIfTI and in MONAI's ``MetaTensor.affine``. A voxel index names the
centre of its voxel; a grid covers half a voxel more on each side.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# One slab of a resampling has at most this many voxels, so that the sampling positions of a large volume
# (12 bytes a voxel) never exist at once.
SLAB_VOXELS = 1 << 23
# Axes that part by less than this many voxels over the whole grid are parallel.
NEGLIGIBLE = 1e-3
# The corners of a unit cube, the last axis changing fastest.
CORNERS = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
# Up to so many source voxels along an axis, interpolation along it is fastest as a matrix product.
SHORT_AXIS = 160


class Grid(NamedTuple):
    """A regular grid of voxels in space.

    Attributes:
        affine: (4, 4) float64, voxel index -> mm (RAS).
        shape: number of voxels along the three axes.
    """

    affine: np.ndarray
    shape: tuple[int, int, int]

    @property
    def spacing(self) -> np.ndarray:
        """(3,) mm between neighbouring voxels along each axis."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def center_mm(self) -> np.ndarray:
        """(3,) mm: the middle."""
        return self.to_mm((np.array(self.shape) - 1) / 2)

    def to_mm(self, voxels: np.ndarray) -> np.ndarray:
        """(..., 3) voxel indices -> (..., 3) mm."""
        return np.asarray(voxels, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_voxels(self, mm: np.ndarray) -> np.ndarray:
        """(..., 3) mm -> (..., 3) voxel indices, not rounded."""
        return (np.asarray(mm, dtype=np.float64) - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T

    def holds(self, mm: np.ndarray) -> np.ndarray:
        """(..., 3) mm -> (...) bool: which places lie in a voxel of the grid."""
        voxels = self.to_voxels(mm)
        return ((voxels > -0.5) & (voxels < np.array(self.shape) - 0.5)).all(axis=-1)

    def corners_mm(self) -> np.ndarray:
        """(8, 3) mm: the outer corners of the corner voxels."""
        return self.to_mm(CORNERS * self.shape - 0.5)

    def reversed(self) -> Grid:
        """The same voxels, the last axis first."""
        return Grid(self.affine[:, [2, 1, 0, 3]], self.shape[::-1])

    def crop(self, start: Sequence[int], stop: Sequence[int]) -> Grid:
        """The part of this grid from voxel ``start`` up to, not with, voxel ``stop``."""
        affine = self.affine.copy()
        affine[:3, 3] = self.to_mm(np.asarray(start))
        return Grid(affine, tuple(int(b - a) for a, b in zip(start, stop, strict=True)))


def cube_around(center_mm: Sequence[float], spacing_mm: float, size: int) -> Grid:
    """A cube of ``size`` voxels a side whose axes are those of RAS space, centred at ``center_mm``."""
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = np.asarray(center_mm, dtype=np.float64) - spacing_mm * (size - 1) / 2
    return Grid(affine, (size, size, size))


def random_rotation(rng: np.random.Generator, largest: float) -> np.ndarray:
    """(3, 3) a turn about a random axis by at most ``largest`` radians."""
    x, y, z = axis = rng.standard_normal(3)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) / np.linalg.norm(axis)
    angle = rng.uniform(-largest, largest)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def overlap(grid: Grid, other: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The voxels of ``grid`` that may lie in ``other``: start and stop indices (3,), stop excluded, maybe empty."""
    corners = grid.to_voxels(other.corners_mm())
    start = np.clip(np.floor(corners.min(axis=0)), 0, grid.shape).astype(int)
    stop = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, grid.shape).astype(int)
    return start, np.maximum(start, stop)


def resample(
    volume: Tensor, source: Grid, target: Grid, mode: str = "bilinear", average: bool = True
) -> tuple[Tensor, Tensor]:
    """Values of ``volume`` at the voxels of ``target``.

    Where the target is coarser the source is averaged first, so that thin structures fade instead of flickering
    (only in ``bilinear`` mode). Voxels outside the source repeat its border and are marked in the second result.

    Args:
        volume: (C, X, Y, Z) on ``source``.
        source: where the voxels of ``volume`` lie.
        target: where values are wanted.
        mode: ``bilinear`` (trilinear here) or ``nearest`` for label maps.
        average: false for values at the very centres of coarser voxels.

    Returns:
        (C, *target.shape) values and (*target.shape) bool, true inside the source.
    """
    if tuple(volume.shape[1:]) != source.shape:
        raise ValueError(f"a volume of shape {tuple(volume.shape[1:])}; expected its grid's, {source.shape}")
    dtype = torch.float32 if mode == "bilinear" or not volume.is_floating_point() else volume.dtype
    start, stop = overlap(source, target)
    if (stop <= start).any():
        empty = torch.zeros(target.shape, dtype=torch.bool, device=volume.device)
        return torch.zeros(volume.shape[0], *target.shape, dtype=dtype, device=volume.device), empty
    factors = _factors(source, target) if average and mode == "bilinear" else np.ones(3, dtype=int)
    # Whole blocks around the target, so that no average at its border lacks the voxels beyond.
    start, stop = np.maximum(start - factors, 0), np.minimum(stop + 2 * factors, source.shape)
    volume = volume[:, start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]].to(dtype)
    source = source.crop(start, stop)
    fine = source
    volume, source = _average(volume, source, factors)
    step = max(1, SLAB_VOXELS // (target.shape[1] * target.shape[2]))
    if step >= target.shape[0]:
        positions = _positions(source, target, volume.device)
        sampled = _sample(volume, positions, target.shape, mode)
        if source is not fine:
            positions = _positions(fine, target, volume.device)
        return sampled, _inside(positions, fine.shape).expand(target.shape)
    values = torch.empty(volume.shape[0], *target.shape, dtype=dtype, device=volume.device)
    inside = torch.empty(target.shape, dtype=torch.bool, device=volume.device)
    for first in range(0, target.shape[0], step):
        last = min(first + step, target.shape[0])
        slab = target.crop((first, 0, 0), (last, *target.shape[1:]))
        values[:, first:last] = _sample(volume, _positions(source, slab, volume.device), slab.shape, mode)
        inside[first:last] = _inside(_positions(fine, slab, volume.device), fine.shape)
    return values, inside


def _factors(source: Grid, target: Grid) -> np.ndarray:
    """(3,) how many whole source voxels along each axis go into a target voxel, at least 1."""
    axes = np.abs(np.linalg.inv(source.affine[:3, :3]) @ target.affine[:3, :3]).max(axis=1)
    return np.minimum(np.maximum(1, np.floor(axes + 1e-6)), source.shape).astype(int)


def _average(volume: Tensor, source: Grid, factors: np.ndarray) -> tuple[Tensor, Grid]:
    """The means of blocks of voxels, axis by axis, and where they lie."""
    if (factors == 1).all():
        return volume, source
    # A last, partial block is filled by repeating the border, as everywhere outside the source.
    missing = [int(-n % f) for n, f in zip(source.shape, factors, strict=True)]
    padding = [p for m in reversed(missing) for p in (0, m)]
    volume = F.avg_pool3d(F.pad(volume[None], padding, mode="replicate")[0], tuple(int(f) for f in factors))
    affine = source.affine.copy()
    affine[:3, :3] *= factors
    affine[:3, 3] = source.to_mm((factors - 1) / 2)
    return volume, Grid(affine, tuple(volume.shape[1:]))


def _positions(source: Grid, target: Grid, device: torch.device) -> list[Tensor]:
    """For each axis of ``source`` the index along it of every voxel of ``target``, of size 1 where it does not vary."""
    theta = np.linalg.inv(source.affine) @ target.affine
    positions = []
    for axis in range(3):
        position = torch.full((1, 1, 1), theta[axis, 3], device=device, dtype=torch.float32)
        for k, n in enumerate(target.shape):
            if abs(theta[axis, k]) * (n - 1) > NEGLIGIBLE:
                steps = torch.arange(n, device=device, dtype=torch.float32) * float(theta[axis, k])
                position = position + steps.view([-1 if k == i else 1 for i in range(3)])
        positions.append(position)
    return positions


def _sample(volume: Tensor, positions: list[Tensor], shape: Sequence[int], mode: str) -> Tensor:
    """(C, *shape): ``volume`` (C, X, Y, Z) at ``positions``, its border repeated outside."""
    varying = [[k for k in range(3) if p.shape[k] > 1] for p in positions]
    axes = [v[0] for v in varying if v]
    if all(len(v) <= 1 for v in varying) and len(set(axes)) == len(axes):
        return _sample_along_axes(volume, positions, shape, mode)
    # Positions as grid_sample wants them: -1 and 1 on the outer voxels, the last axis first. (affine_grid would be
    # half a voxel off along an axis on which the target has a single voxel.)
    scaled = [(2 * p / max(1, n - 1) - 1).expand(*shape) for p, n in zip(positions, volume.shape[1:], strict=True)]
    places = torch.stack(scaled[::-1], dim=-1).to(volume.dtype)
    return F.grid_sample(volume[None], places[None], mode=mode, padding_mode="border", align_corners=True)[0]


def _sample_along_axes(volume: Tensor, positions: list[Tensor], shape: Sequence[int], mode: str) -> Tensor:
    """The same where the axes of the two grids are parallel: one axis at a time, many times faster."""
    free = [k for k in range(3) if all(p.shape[k] == 1 for p in positions)]
    axes = [next((k for k in range(3) if p.shape[k] > 1), None) for p in positions]
    axes = [free.pop() if k is None else k for k in axes]
    volume = volume.permute(0, *(1 + axes.index(k) for k in range(3)))
    for k in range(3):
        last = volume.shape[1 + k] - 1
        position = positions[axes.index(k)].flatten().expand(shape[k]).clamp(0, last)
        if mode == "nearest":
            volume = volume.index_select(1 + k, position.round().long())
            continue
        low = position.floor()
        weight = (position - low).to(volume.dtype)
        below, above = low.long(), (low.long() + 1).clamp(max=last)
        if last < SHORT_AXIS:
            matrix = volume.new_zeros(len(low), last + 1)
            matrix.scatter_add_(1, below[:, None], 1 - weight[:, None]).scatter_add_(1, above[:, None], weight[:, None])
            before, after = volume.shape[: 1 + k], volume.shape[2 + k :]
            rows = volume.reshape(before.numel(), last + 1, after.numel())
            volume = (rows.squeeze(2) @ matrix.T if k == 2 else matrix @ rows).reshape(*before, len(low), *after)
            continue
        weight = weight.view([-1 if k == i else 1 for i in range(3)])
        volume = torch.lerp(volume.index_select(1 + k, below), volume.index_select(1 + k, above), weight)
    return volume


def _inside(positions: list[Tensor], shape: Sequence[int]) -> Tensor:
    """Which positions lie in a grid of ``shape``, half a voxel around its border included; it broadcasts."""
    inside = torch.ones((), dtype=torch.bool, device=positions[0].device)
    for position, n in zip(positions, shape, strict=True):
        within = (position > -0.5 - 1e-3) & (position < n - 0.5 + 1e-3)
        # Mostly it is all of them, which a short axis tells at once: nothing as large as the target is made then.
        if not bool(within.all()):
            inside = inside & within
    return inside
