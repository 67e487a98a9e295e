# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Volumes from files of every known format, on the grid on which they are stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.data import ITKReader, MetaTensor
from monai.data.utils import to_affine_nd
from PIL import Image

from ..files import existing
from . import headers, nifti
from .dicom_series import read_dicom
from .dicom_tags import is_dicom
from .files import readable
from .nifti_affine import in_mm, is_usable
from .options import Reading
from .row_order import held_by_float32, in_rows

SUFFIXES = (*nifti.SUFFIXES, *nifti.OTHERS, *headers.NRRD, *headers.METAIMAGE)
FORMATS = "a NIfTI, NRRD, MetaImage or .mgz file, or the folder of one DICOM series"
# A hash by which voxels are known again; not a name that a file's own header may have.
CONTENT = "sha256_of_voxels"
# What the voxels count, where the file says it.
UNIT = "unit_of_intensities"
DEFAULT = Reading()


def is_volume(path: str | Path) -> bool:
    """Whether a file is of a kind that holds volumes, going by its name."""
    return str(path).lower().endswith(SUFFIXES)


def read_volume(path: str | Path, reading: Reading = DEFAULT, exact: bool = False) -> MetaTensor:
    """(C, X, Y, Z), or (C, X, Y) of a 2D file, as stored.

    Its meta holds ``affine``, (4, 4), voxel -> mm in RAS; ``original_affine``, the same in the file's own unit, for
    masks beside it; ``spatial_shape``, ``space``, ``filename_or_obj``; ``notes``, a list of remarks for the user;
    for some formats ``CONTENT``; and of DICOM that says it ``UNIT``, such as HU.

    Args:
        path: one of :data:`FORMATS`.
        reading: what the user chose.
        exact: numbers of the file's own type, for label maps; else float32.

    Raises:
        ValueError: nothing there, unreadable, too large, several DICOM series, or a geometry that is none.
    """
    place = existing(path, FORMATS, folders=True)
    with readable(path, FORMATS):
        stored = _read(place, reading, exact)
    if not is_usable(stored.affine):
        raise ValueError(
            f"{path}: the affine {np.asarray(stored.affine).tolist()} is singular or not finite; expected one that "
            f"gives voxels a size"
        )
    values = stored.values
    if not values.size:
        raise ValueError(f"{path}: an array of shape {values.shape}; expected at least one voxel along every axis")
    # Channels come last in files, and first in torch.
    values = np.moveaxis(values, -1, 0) if values.ndim > 3 else values[None]
    if values.dtype.byteorder not in "=|":
        values = values.astype(values.dtype.newbyteorder("="))
    meta = {
        "original_affine": np.array(stored.own),
        "spatial_shape": np.array(values.shape[1:]),
        "space": "RAS",
        "filename_or_obj": str(path),
        "notes": stored.notes,
        **({CONTENT: stored.content} if stored.content else {}),
        **({UNIT: stored.unit} if stored.unit else {}),
    }
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(values)), affine=torch.tensor(stored.affine), meta=meta)


def _read(place: Path, reading: Reading, exact: bool) -> nifti.Stored:
    name = str(place).lower()
    if place.is_dir():
        return _of_dicom(place, reading)
    if name.endswith((*nifti.SUFFIXES, *nifti.OTHERS)):
        return nifti.read_nifti(place, reading, exact)
    if name.endswith((*headers.NRRD, *headers.METAIMAGE)):
        return _by_itk(place, headers.check_header(place, reading), exact)
    if is_dicom(place):
        return _of_dicom(place, reading)
    try:
        with Image.open(place) as picture:
            size = picture.size
    except Exception as error:
        raise ValueError(f"{place}: cannot be read (of no known format); expected {FORMATS}") from error
    raise ValueError(f"{place}: a 2D image of {size} pixels; expected a 3D volume: {FORMATS}")


def _of_dicom(place: Path, reading: Reading) -> nifti.Stored:
    found = read_dicom(place, reading)
    return nifti.Stored(in_rows(found.values), found.affine, found.affine, found.notes, unit=found.unit)


def _by_itk(place: Path, unit: str, exact: bool) -> nifti.Stored:
    reader = ITKReader()
    values, meta = reader.get_data(reader.read(place))
    own = to_affine_nd(3, np.asarray(meta["affine"], dtype=np.float64))
    affine, notes = in_mm(own, unit)
    # ITK takes its memory back: the voxels are moved elsewhere.
    if exact:
        return nifti.Stored(np.array(values), affine, own, notes)
    with held_by_float32(place):
        turned = in_rows(values)
        return nifti.Stored(np.array(values, np.float32) if turned is values else turned, affine, own, notes)
