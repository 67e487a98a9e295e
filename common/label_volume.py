# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Label maps of volumes as files on the grid of the image that they belong to."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
from monai.data import ITKWriter

NIFTI = (".nii", ".nii.gz")
EXTENSIONS = (*NIFTI, ".nrrd", ".mha")


def save_label_volume(path: str | Path, labels: np.ndarray, affine: np.ndarray, source: str | Path) -> None:
    """Write (X, Y, Z) uint8 or uint16; a NIfTI of a NIfTI image has the image's own header: codes, units, affine.

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
    if str(source).lower().endswith(NIFTI):
        original = nib.load(source)
        header = original.header.copy()
        header.set_data_dtype(labels.dtype)
        header.set_slope_inter(1, 0)
        header["cal_min"] = header["cal_max"] = 0
        header["descrip"] = b""
        # The shape as it is stored, unless the image has further axes of several colours or times.
        shape = original.shape if math.prod(original.shape) == labels.size else original.shape[:3]
        mask = nib.Nifti1Image(labels.reshape(shape), None, header)
    else:
        mask = nib.Nifti1Image(labels, np.asarray(affine, dtype=np.float64))
        mask.set_qform(mask.affine, code="scanner")
        mask.set_sform(mask.affine, code="scanner")
        mask.header.set_xyzt_units("mm")
    nib.save(mask, path)
