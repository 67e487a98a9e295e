# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What a user may choose about reading files, and the limits that hold unless they are raised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Voxels of a volume: 1024 a side, 4 GiB as the float32 that they become.
MAX_VOXELS = 1 << 30
# Pixels of a picture: 1.5 GiB as three channels of float32.
MAX_PIXELS = 1 << 27
# Bytes that reading takes at its height for each voxel: as stored, as float32, and a copy of that.
BYTES_A_VOXEL = 10
# Of a picture: as stored, and three channels of float32.
BYTES_A_PIXEL = 16
IRREGULAR = ("refuse", "resample")


@dataclass(frozen=True)
class Reading:
    """How volumes are read.

    Attributes:
        series: which stack of a DICOM folder that holds several: its number in the list that is shown then, or its
            SeriesInstanceUID.
        irregular: ``refuse`` DICOM slices that lack some or lie at uneven distances, or ``resample`` them.
        slice_thickness: mm, of a single DICOM slice whose file does not say it.
        max_voxels: of a volume; more are refused before any memory is taken for them.

    Raises:
        ValueError: a value of another form.
    """

    series: str | int | None = None
    irregular: str = "refuse"
    slice_thickness: float | None = None
    max_voxels: int = MAX_VOXELS

    def __post_init__(self) -> None:
        if self.series is not None and (isinstance(self.series, bool) or not isinstance(self.series, (str, int))):
            raise ValueError(f"series is {self.series!r}: expected the number of a stack or a SeriesInstanceUID")
        if self.irregular not in IRREGULAR:
            raise ValueError(f"irregular is {self.irregular!r}: expected {' or '.join(IRREGULAR)}")
        if self.slice_thickness is not None and not _is_positive(self.slice_thickness):
            raise ValueError(f"slice_thickness is {self.slice_thickness!r}: expected a positive number of mm")
        if not _is_positive(self.max_voxels):
            raise ValueError(f"max_voxels is {self.max_voxels!r}: expected a positive number")

    def check_size(self, path: str | Path, shape: Sequence[int]) -> None:
        """From the header alone, before memory is taken.

        Raises:
            ValueError: more voxels than ``max_voxels``.
        """
        check_count(path, shape, self.max_voxels, "max_voxels", BYTES_A_VOXEL)


def check_count(path: str | Path, shape: Sequence[int], most: int, option: str, bytes_each: int) -> None:
    """Raises ValueError where ``shape`` holds more than ``most`` voxels or pixels; ``option`` raises the limit."""
    count = math.prod(int(n) for n in shape)
    if count > most:
        size = " x ".join(str(int(n)) for n in shape)
        raise ValueError(
            f"{path}: its header says {size} = {count:,}, which takes about {count * bytes_each / 2**30:.1f} GiB of "
            f"memory; expected at most {int(most):,}: crop or resample it, or raise --{option}"
        )


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
