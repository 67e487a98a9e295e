# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The image of a session, from whatever it is given as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from ..common.reading.nifti_affine import is_usable
from ..common.reading.options import Reading
from ..volumes import LoadVolumed, check_volume

ORIENTATION = "LPS"
# For each letter, where an axis of the image runs to: the axis of RAS space, and in its direction or against it.
WAYS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
ARRAY = "the array"
PROPERTIES = ("spacing", "orientation", "affine")
_numbers = count()


def read_image(image: Any, properties: Mapping[str, Any] | None, reading: Reading) -> MetaTensor:
    """(1, X, Y, Z) float32 on the stored grid, its meta as of :class:`..volumes.LoadVolumed`.

    Args:
        image: path of a file or DICOM folder; ``MetaTensor``, tensor or array, (1, X, Y, Z) or (X, Y, Z).
        properties: of an array, see :func:`array_affine`.
        reading: of files.

    Raises:
        ValueError: no such file, no 3D image of one channel with contrast, or properties of another form.
    """
    if isinstance(image, (str, Path)):
        return LoadVolumed("image", 0, reading)({"image": str(image)})["image"]
    try:
        values = image if isinstance(image, Tensor) else torch.from_numpy(_native(np.asarray(image)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"an image of {type(image).__name__}: expected a path, or an array of numbers") from error
    if values.is_complex() or values.dtype == torch.bool:
        raise ValueError(f"an image of {values.dtype}: expected numbers")
    if values.ndim == 3:
        values = values[None]
    if values.ndim != 4 or len(values) != 1 or not values.numel():
        raise ValueError(f"an image of shape {tuple(values.shape)}: expected (1, X, Y, Z) or (X, Y, Z)")
    reading.check_size(ARRAY, values.shape[1:])
    if isinstance(image, MetaTensor) and not properties:
        affine, notes = np.asarray(image.affine.cpu(), dtype=np.float64), []
    else:
        affine, notes = array_affine(properties)
    if affine.shape != (4, 4) or not is_usable(affine):
        raise ValueError(f"affine {affine.tolist()}: expected (4, 4) that gives voxels a size")
    # A copy: whoever gave the array may change it.
    plain = values.as_tensor() if isinstance(values, MetaTensor) else values
    own = plain.detach().to("cpu", torch.float32, copy=True)
    meta = {"original_affine": affine, "spatial_shape": np.array(own.shape[1:]), "space": "RAS", "notes": notes}
    name = str(image.meta.get("filename_or_obj", "")) if isinstance(image, MetaTensor) else ""
    volume = check_volume(MetaTensor(own, affine=torch.from_numpy(affine), meta=meta), name or ARRAY)
    if name:
        volume.meta["filename_or_obj"] = name
    return volume


def reading_of(image: Any, properties: Mapping[str, Any] | None, reading: Reading) -> Reading:
    """How ``image`` is read, of which ``properties`` may say which ``series`` of a DICOM folder is meant.

    Raises:
        ValueError: other properties beside a file.
    """
    if not properties or not isinstance(image, (str, Path)):
        return reading
    if set(properties) != {"series"}:
        raise ValueError(
            f"image_properties {dict(properties)!r} beside a file, which says them itself: expected None, or which "
            "'series' of a DICOM folder"
        )
    return replace(reading, **properties)


def array_affine(properties: Mapping[str, Any] | None) -> tuple[np.ndarray, list[str]]:
    """(4, 4) voxel -> mm in RAS, and what was assumed.

    Args:
        properties: ``affine``; or ``spacing``, mm along each axis (1 where it is missing), and ``orientation``, where
            the axes run to, such as ``LPS``, which is assumed where it is missing: axial slices, as of most scanners.

    Raises:
        ValueError: others, or another form.
    """
    given = dict(properties or {})
    if unknown := [k for k in given if k not in PROPERTIES]:
        raise ValueError(f"image_properties has {', '.join(map(repr, unknown))}: expected {', '.join(PROPERTIES)}")
    if given.get("affine") is not None:
        if given.keys() & {"spacing", "orientation"}:
            raise ValueError("image_properties has an affine and more: expected the affine alone, which says it all")
        return _floats("affine", given["affine"], (4, 4)), []
    notes = []
    spacing, orientation = given.get("spacing"), given.get("orientation")
    if spacing is None:
        spacing = (1.0, 1.0, 1.0)
        notes.append("nothing said the spacing: 1 mm was assumed")
    if orientation is None:
        orientation = ORIENTATION
        notes.append(f"nothing said where the axes run to: {ORIENTATION} was assumed")
    spacing = _floats("spacing", spacing, (3,))
    if (spacing <= 0).any():
        raise ValueError(f"spacing {spacing.tolist()}: expected three positive numbers, mm")
    letters = str(orientation).upper()
    ways = [WAYS.get(letter, (None, 0)) for letter in letters]
    if {axis for axis, _ in ways} != {0, 1, 2} or len(ways) != 3:
        raise ValueError(f"orientation {orientation!r}: expected a letter an axis, such as {ORIENTATION} or RAS")
    affine = np.eye(4)
    affine[:3, :3] = 0
    for i, (axis, sign) in enumerate(ways):
        affine[axis, i] = sign * spacing[i]
    return affine, notes


def new_content() -> str:
    """A name for voxels that no others have in this process: hashing them all would make a click wait."""
    return f"image {next(_numbers)} of this process"


def _floats(name: str, given: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} {given!r}: expected numbers of shape {shape}") from error
    if values.shape != shape or not np.isfinite(values).all():
        raise ValueError(f"{name} {given!r}: expected finite numbers of shape {shape}")
    return values


def _native(values: np.ndarray) -> np.ndarray:
    """Of a type and order of bytes that torch knows."""
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{values.dtype}")
    if values.dtype.kind == "u" and values.itemsize > 1:
        return values.astype(np.int64 if values.itemsize < 8 else np.float64)
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
