# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Numbers of results rounded for people, to three significant digits at least."""

from __future__ import annotations

import math

DIGITS = 3


def rounded(value: float, decimals: int = 4, scale: float | None = None) -> float:
    """With ``decimals``, or as many more as keep three significant digits.

    Args:
        value: any number.
        decimals: of large numbers.
        scale: whose digits count, such as a spacing for a place; ``value`` itself where it is None.
    """
    size = abs(value if scale is None else scale)
    if not size or not math.isfinite(size):
        return round(value, decimals) if math.isfinite(value) else value
    return round(value, max(decimals, DIGITS - 1 - math.floor(math.log10(size))))


def shown(value: float) -> str:
    """Three significant digits as text: ``0.000123``, ``12.3``, ``1230``."""
    digits = f"{value:.{DIGITS}g}"
    return digits if abs(float(digits)) < 10**DIGITS else f"{float(digits):.0f}"
