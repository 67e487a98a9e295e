# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The affine of a NIfTI file. It is decided here and nowhere else."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# Of the longest axis: below it the voxels of an affine have no size that numbers of 32 bits could tell from none.
SMALLEST = 1e-6
MM = {"unknown": 1.0, "mm": 1.0, "micron": 1e-3, "meter": 1e3}


class Decided(NamedTuple):
    """What a header says about space.

    Attributes:
        affine: (4, 4) float64, voxel -> mm in RAS.
        stored: the same in the file's own unit, as its header has it.
        form: ``sform``, ``qform`` or ``pixdim``.
        notes: remarks for the user about the choice.
    """

    affine: np.ndarray
    stored: np.ndarray
    form: str
    notes: list[str]


def is_usable(affine: np.ndarray | None) -> bool:
    """Whether an affine is finite and gives voxels a size: judged in proportion, whatever its unit."""
    if affine is None or np.shape(affine) != (4, 4) or not np.isfinite(affine).all():
        return False
    axes = np.asarray(affine, dtype=np.float64)[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not lengths.min() > SMALLEST * lengths.max() > 0:
        return False
    return bool(abs(np.linalg.det(axes / lengths)) > SMALLEST)


def decide(header: Any, stored_sizes: np.ndarray | None = None) -> Decided:
    """The sform where its code is set and it is usable, else the qform likewise, else pixdim: as nibabel does.

    Args:
        header: of nibabel, NIfTI-1 or -2.
        stored_sizes: (3,) pixdim as it is stored, where that may be another than nibabel's.

    Raises:
        ValueError: none of them is usable.
    """
    notes = []
    # Of an axis that a file does not have it may say nothing.
    given = np.arange(3) < int(header["dim"][0])
    forms = {"sform": header.get_sform, "qform": header.get_qform}
    found = None
    for name, read in forms.items():
        if int(header[f"{name}_code"]) <= 0:
            continue
        affine = _filled(_quietly(read), given)
        if is_usable(affine):
            found = name, affine
            break
        notes.append(f"the file's {name} is no usable affine and was left out")
    if found is None:
        base = _filled(_quietly(header.get_base_affine), given)
        pixdim = [float(v) for v in (header["pixdim"][1:4] if stored_sizes is None else stored_sizes)]
        if not is_usable(base) or not all(0 < abs(v) < np.inf for v, there in zip(pixdim, given, strict=True) if there):
            raise ValueError(f"voxel sizes {pixdim} and no usable sform or qform; expected finite, positive sizes")
        found = "pixdim", base
    form, stored = found
    if notes:
        notes[-1] += f": the {form} counts"
    stored = np.asarray(stored, dtype=np.float64)
    sizes, pixdim = np.linalg.norm(stored[:3, :3], axis=0), np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    if form != "pixdim" and not np.allclose(sizes[given], pixdim[given], rtol=1e-3, atol=0):
        notes.append(
            f"the file's {form} has voxels of {_sizes(sizes)}, its pixdim of {_sizes(pixdim)}: the {form} counts"
        )
    code = int(header["xyzt_units"]) & 7
    if code > 3:
        raise ValueError(f"the unit of length {code}; expected 0 (none), 1 (meter), 2 (mm) or 3 (micron)")
    affine, said = in_mm(stored, header.get_xyzt_units()[0])
    return Decided(affine, stored, form, notes + said)


def in_mm(stored: np.ndarray, unit: str) -> tuple[np.ndarray, list[str]]:
    """An affine in a unit of length -> the same in mm, and remarks for the user; other units are taken as mm."""
    factor = MM.get(unit, 1.0)
    if factor == 1:
        return stored, []
    affine = np.diag([factor, factor, factor, 1.0]) @ stored
    before, after = (_sizes(np.linalg.norm(a[:3, :3], axis=0)) for a in (stored, affine))
    return affine, [f"the file's unit of length is the {unit}: its voxels of {before} are read as {after} mm"]


def _quietly(read: Any) -> np.ndarray | None:
    """None where nibabel finds the numbers impossible."""
    try:
        return read()
    except Exception:  # noqa: BLE001 - LinAlgError, HeaderDataError, ValueError: each means that there is no affine
        return None


def _filled(affine: np.ndarray | None, given: np.ndarray) -> np.ndarray | None:
    """With a third axis at a right angle to the two of a 2D file that says nothing of it."""
    if affine is None or given.sum() != 2 or np.linalg.norm(affine[:3, 2]) > 0:
        return affine
    filled = np.array(affine, dtype=np.float64)
    normal = np.cross(filled[:3, 0], filled[:3, 1])
    filled[:3, 2] = normal / max(np.linalg.norm(normal), 1e-300) * np.linalg.norm(filled[:3, 0])
    return filled


def _sizes(values: np.ndarray) -> str:
    return " x ".join(f"{v:.4g}" for v in values)
