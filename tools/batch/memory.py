# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Memory that a job takes, as its image's header says, before any of it is read."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image
from sam_bundles.common.reading import headers
from sam_bundles.common.reading.dicom_tags import find_slices, is_dicom
from sam_bundles.common.reading.nifti import OTHERS, SUFFIXES, open_nifti
from sam_bundles.common.reading.options import BYTES_A_PIXEL, BYTES_A_VOXEL

# Where the system does not say what is free.
ASSUMED = 8 << 30
# A worker without a job: torch, MONAI and the weights.
WORKER = 700 << 20
# What a network's layers hold while they compute, whatever the size of the image.
LAYERS = 256 << 20
# Bytes beside reading for each voxel: label maps, logits and what is written.
RESULT = 14


def available() -> int:
    """Bytes that are free now."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return ASSUMED


def needed(path: str) -> int:
    """Bytes at the height of a job; 0 where the header says nothing, which the worker will find out."""
    place = Path(path)
    try:
        count, each = _size(place)
    except Exception:  # noqa: BLE001 - whoever reads the image says what is wrong with it
        return 0
    return LAYERS + count * (each + RESULT)


def _size(place: Path) -> tuple[int, int]:
    """Voxels or pixels, and the bytes that reading takes for each."""
    name = place.name.lower()
    if place.is_dir():
        # Of its files one is looked at: the others are as large.
        files = [f for f in place.rglob("*") if f.is_file() and not f.name.startswith(".")]
        first = next(slices for f in sorted(files) if (slices := find_slices(f).slices))
        return math.prod(first[0].size) * len(first) * len(files), BYTES_A_VOXEL
    if name.endswith((*SUFFIXES, *OTHERS)):
        return math.prod(open_nifti(place).shape), BYTES_A_VOXEL
    if name.endswith((*headers.METAIMAGE, *headers.NRRD)):
        return math.prod(headers.voxels(place).shape), BYTES_A_VOXEL
    if is_dicom(place):
        slices = find_slices(place).slices
        return math.prod(slices[0].size) * len(slices), BYTES_A_PIXEL
    with Image.open(place) as picture:
        return math.prod(picture.size), BYTES_A_PIXEL
