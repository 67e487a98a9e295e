# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Physical space: grids of voxels, cubes cut out of them, and the way between two grids.

World coordinates are millimetres in RAS, as in NIfTI and in MONAI's ``MetaTensor.affine``. A voxel index names the
centre of its voxel; a grid covers half a voxel more on each side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# One slab of a resampling has at most this many voxels, so that the sampling positions of a large volume
# (12 bytes a voxel) never exist at once.
SLAB_VOXELS = 1 << 23


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

    def to_mm(self, voxels: np.ndarray) -> np.ndarray:
        """(..., 3) voxel indices -> (..., 3) mm."""
        return np.asarray(voxels, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_voxels(self, mm: np.ndarray) -> np.ndarray:
        """(..., 3) mm -> (..., 3) voxel indices, not rounded."""
        return (np.asarray(mm, dtype=np.float64) - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T

    def corners_mm(self) -> np.ndarray:
        """(8, 3) mm: the outer corners of the corner voxels."""
        low, high = np.full(3, -0.5), np.asarray(self.shape) - 0.5
        return self.to_mm(np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, 8).T)

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


def overlap(grid: Grid, other: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The voxels of ``grid`` that may lie in ``other``: start and stop indices (3,), stop excluded, maybe empty."""
    corners = grid.to_voxels(other.corners_mm())
    start = np.clip(np.floor(corners.min(axis=0)), 0, grid.shape).astype(int)
    stop = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, grid.shape).astype(int)
    return start, np.maximum(start, stop)


def resample(volume: Tensor, source: Grid, target: Grid, mode: str = "bilinear") -> tuple[Tensor, Tensor]:
    """Values of ``volume`` at the voxels of ``target``.

    Where the target is coarser the source is averaged first, so that thin structures fade instead of flickering
    (only in ``bilinear`` mode). Voxels outside the source repeat its border and are marked in the second result.

    Args:
        volume: (C, X, Y, Z) on ``source``.
        source: where the voxels of ``volume`` lie.
        target: where values are wanted.
        mode: ``bilinear`` (trilinear here) or ``nearest`` for label maps.

    Returns:
        (C, *target.shape) values and (*target.shape) bool, true inside the source.
    """
    if tuple(volume.shape[1:]) != source.shape:
        raise ValueError(f"a volume of shape {tuple(volume.shape[1:])} was given with a grid of shape {source.shape}")
    dtype = torch.float32 if mode == "bilinear" or not volume.is_floating_point() else volume.dtype
    start, stop = overlap(source, target)
    values = torch.zeros(volume.shape[0], *target.shape, dtype=dtype, device=volume.device)
    inside = torch.zeros(target.shape, dtype=torch.bool, device=volume.device)
    if (stop <= start).any():
        return values, inside
    volume = volume[:, start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]].to(dtype)
    source = source.crop(start, stop)
    fine = source
    if mode == "bilinear":
        volume, source = _average(volume, source, target)
    step = max(1, SLAB_VOXELS // (target.shape[1] * target.shape[2]))
    for first in range(0, target.shape[0], step):
        last = min(first + step, target.shape[0])
        slab = target.crop((first, 0, 0), (last, *target.shape[1:]))
        places = _places(source, slab, volume.device, dtype)
        values[:, first:last] = F.grid_sample(
            volume[None], places[None], mode=mode, padding_mode="border", align_corners=True
        )[0]
        inside[first:last] = _inside(fine, slab, volume.device)
    return values, inside


def _average(volume: Tensor, source: Grid, target: Grid) -> tuple[Tensor, Grid]:
    """Average whole blocks of source voxels as large as a target voxel, axis by axis."""
    axes = np.abs(np.linalg.inv(source.affine[:3, :3]) @ target.affine[:3, :3]).max(axis=1)
    factors = np.minimum(np.maximum(1, np.floor(axes + 1e-6)), source.shape).astype(int)
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


def _positions(source: Grid, target: Grid, device: torch.device) -> Iterator[Tensor]:
    """For each axis of ``source``: the index along it of every voxel of ``target``."""
    theta = np.linalg.inv(source.affine) @ target.affine
    for axis in range(3):
        position = torch.as_tensor(theta[axis, 3], device=device, dtype=torch.float32)
        for k in range(3):
            steps = torch.arange(target.shape[k], device=device, dtype=torch.float32) * float(theta[axis, k])
            position = position + steps.view([-1 if k == i else 1 for i in range(3)])
        yield position


def _places(source: Grid, target: Grid, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(*target.shape, 3): the positions as ``grid_sample`` wants them, -1 and 1 on the outer voxels, last axis first.

    Not by ``affine_grid``, which is half a voxel off along an axis on which the target has a single voxel.
    """
    scaled = [
        2 * position / max(1, n - 1) - 1
        for position, n in zip(_positions(source, target, device), source.shape, strict=True)
    ]
    return torch.stack(scaled[::-1], dim=-1).to(dtype)


def _inside(source: Grid, target: Grid, device: torch.device) -> Tensor:
    """(*target.shape) bool: the voxel's centre lies in the source, half a voxel around its border included."""
    inside = torch.ones((), dtype=torch.bool, device=device)
    for position, n in zip(_positions(source, target, device), source.shape, strict=True):
        inside = inside & (position > -0.5 - 1e-3) & (position < n - 0.5 + 1e-3)
    return inside
