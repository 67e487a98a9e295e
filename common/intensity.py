# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""From a scanner's intensities to those that networks are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# A window in Hounsfield units wide enough for fat, soft tissue, contrast medium and the edge of bone.
CT_WINDOW = (-250.0, 350.0)
# Only CT stores air as about -1000; a quarter of that tells it from MR, whatever its padding value.
CT_MINIMUM = -250.0
# Below any padding value of CT: intensities of another unit.
CT_LOWEST = -1e5
SAMPLES = 1 << 20
# What 32-bit numbers compute with: sums of a whole volume's values and their squares stay finite and above nothing.
LARGEST, SMALLEST = 1e30, 1e-30


def intensity_bounds(volume: Tensor, window: str | Sequence[float] = "auto") -> tuple[float, float]:
    """The lowest and highest intensity that count in a whole volume; what lies beyond is clipped.

    Args:
        volume: any shape, finite values.
        window: ``(low, high)`` in the volume's own units; ``"ct"`` for the soft-tissue window; ``"percentile"``
            for the 0.5 and 99.5 percentiles; ``"auto"`` for ``ct`` where the volume reaches below -250, and not as
            far as no CT does, else ``percentile``.

    Raises:
        ValueError: a window of another form, or in which the volume has no contrast; a constant volume, or one of
            numbers that 32 bits do not compute with.
    """
    low, high = _bounds(volume, window)
    check_range(low, high)
    values = volume.reshape(-1)
    sampled = values[:: max(1, values.numel() // SAMPLES)]
    # Mostly a sample tells; only where it does not is the whole volume looked at.
    if _is_beyond(sampled, low, high) and _is_beyond(values, low, high):
        least, most = (float(v) for v in values.aminmax())
        raise ValueError(
            f"window [{low:g}, {high:g}]: all intensities, from {least:g} to {most:g}, lie on one side of it; expected "
            f"--window with [low, high] between them, or percentile"
        )
    return low, high


def check_range(low: float, high: float) -> None:
    """Raises ValueError where 32-bit numbers do not compute with intensities from ``low`` to ``high``."""
    if max(abs(low), abs(high)) > LARGEST or high - low < SMALLEST:
        raise ValueError(
            f"intensities from {low:g} to {high:g}: expected numbers up to {LARGEST:g} whose contrast is above "
            f"{SMALLEST:g}: scale them"
        )


def _is_beyond(values: Tensor, low: float, high: float) -> bool:
    return bool((values <= low).all()) or bool((values >= high).all())


def _bounds(volume: Tensor, window: str | Sequence[float]) -> tuple[float, float]:
    if not isinstance(window, str):
        if len(window) != 2 or not all(map(_is_number, window)) or not float(window[0]) < float(window[1]):
            raise ValueError(
                f"window {list(window)}: expected [low, high], two finite numbers with low < high, or auto, ct, "
                f"percentile"
            )
        return float(window[0]), float(window[1])
    if window not in ("auto", "ct", "percentile"):
        raise ValueError(f"window {window!r}: expected auto, ct, percentile or [low, high]")
    values = volume.reshape(-1)
    values = values[:: max(1, values.numel() // SAMPLES)].float()
    if window == "auto":
        window = "ct" if CT_LOWEST < float(values.min()) < CT_MINIMUM else "percentile"
    if window == "ct":
        return CT_WINDOW
    low, high = np.percentile(values.cpu().numpy(), (0.5, 99.5))
    if low == high:
        low, high = float(volume.min()), float(volume.max())
    if low == high:
        raise ValueError(f"every voxel has the value {low}: expected an image with contrast")
    return float(low), float(high)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _unit(size: float) -> float:
    """A power of two that brings numbers of ``size`` near 1: squares neither overflow nor vanish, no digit changes."""
    return 2.0 ** -round(math.log2(size)) if size else 1.0


def normalise(cube: Tensor, inside: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Clip to ``bounds``, then mean 0 and standard deviation 1 over the voxels inside; zero outside.

    Args:
        cube: (C, X, Y, Z).
        inside: (X, Y, Z) bool.
        bounds: lowest and highest intensity, see :func:`intensity_bounds`.
    """
    unit = _unit(bounds[1] - bounds[0])
    cube = cube.float().clamp(*bounds) * unit
    weight = inside.to(cube.dtype)
    count = weight.sum().clamp(min=1)
    mean = (cube * weight).sum(dim=(-3, -2, -1), keepdim=True) / count
    centred = (cube - mean) * weight
    deviation = (centred.square().sum(dim=(-3, -2, -1), keepdim=True) / count).sqrt()
    return centred / deviation.clamp(min=1e-6 * (bounds[1] - bounds[0]) * unit)


def normalise_above_zero(cube: Tensor, inside: Tensor, bounds: tuple[float, float]) -> Tensor:
    """SAM-Med3D's form: mean 0 and standard deviation 1 over the voxels above zero; zero outside the volume.

    Args:
        cube: (C, X, Y, Z).
        inside: (X, Y, Z) bool.
        bounds: not used by this form, which does not clip.
    """
    cube = cube.float()
    counted = cube[..., (cube > 0).all(dim=0) & inside]
    if counted.numel() < 2:
        return torch.zeros_like(cube)
    unit = _unit(float(counted.max()))
    cube, counted = cube * unit, counted * unit
    return (cube - counted.mean()) / counted.std().clamp(min=1e-6) * inside


NORMALISATIONS = {"clipped": normalise, "above_zero": normalise_above_zero}
