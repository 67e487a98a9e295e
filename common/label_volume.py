# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Label maps of volumes as files, on the grid of the image that they belong to."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from monai.data import ITKWriter

from .reading.nifti import SUFFIXES as NIFTI
from .reading.nifti import open_nifti
from .reading.nifti_affine import is_usable

EXTENSIONS = (*NIFTI, ".nrrd", ".mha")
# Voxels along an axis that NIfTI-1 can count.
NIFTI1_AXIS = 32767


def save_label_volume(path: str | Path, labels: np.ndarray, affine: np.ndarray, source: str | Path) -> None:
    """Write (X, Y, Z) of any type; a NIfTI of a NIfTI image has the image's own header: codes, units, affine.

    Longer axes than NIfTI-1 can count are written as NIfTI-2, as is what belongs to a NIfTI-2 image.

    Args:
        path: with one of EXTENSIONS.
        labels: on the stored grid of the image.
        affine: (4, 4) of it, in RAS.
        source: file of the image.
    """
    if not str(path).lower().endswith(NIFTI):
        writer = ITKWriter(output_dtype=labels.dtype)
        writer.set_data_array(labels[None], channel_dim=0, squeeze_end_dims=False)
        writer.set_metadata({"affine": affine}, resample=False)
        writer.write(str(path))
        return
    save = _like if str(source).lower().endswith(NIFTI) else _anew
    nib.save(save(labels, np.asarray(affine, dtype=np.float64), source), path)


def _like(labels: np.ndarray, affine: np.ndarray, source: str | Path) -> nib.Nifti1Image:
    original = open_nifti(Path(source))
    header = original.header.copy()
    header.set_data_dtype(labels.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    header["descrip"] = b""
    for name, read in (("sform", header.get_sform), ("qform", header.get_qform)):
        # A form that did not count for the image would count for other readers of the mask.
        if int(header[f"{name}_code"]) > 0 and not _is_usable(read):
            header[f"{name}_code"] = 0
    # The shape as it is stored, unless the image has further axes of several colours or times.
    shape = original.shape if math.prod(original.shape) == labels.size else original.shape[:3]
    return type(original)(labels.reshape(shape), None, header)


def _anew(labels: np.ndarray, affine: np.ndarray, source: str | Path) -> nib.Nifti1Image:
    kind = nib.Nifti2Image if max(labels.shape) > NIFTI1_AXIS else nib.Nifti1Image
    mask = kind(labels, affine)
    mask.set_sform(affine, code="scanner")
    mask.set_qform(affine, code="scanner")
    if not np.allclose(mask.get_qform(), affine, atol=1e-4 * np.abs(affine[:3, :3]).max()):
        # It knows no shear, and would say another place.
        mask.set_qform(affine, code="unknown")
    mask.header.set_xyzt_units("mm")
    return mask


def _is_usable(read: Callable[[], np.ndarray]) -> bool:
    try:
        return is_usable(read())
    except Exception:  # noqa: BLE001 - LinAlgError, HeaderDataError, ValueError: each means that there is no affine
        return False
