# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A folder of images, some of which may be DICOM series."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import numpy as np
from monailabel.datastore import dicom
from monailabel.datastore.local import LocalDatastore
from monailabel.datastore.utils import convert
from monailabel.interfaces.exception import ImageNotFoundException

from .common.label_volume import save_label_volume
from .common.reading.dicom_tags import is_dicom
from .common.reading.volume import read_volume

logger = logging.getLogger(__name__)


class SeriesFolders(LocalDatastore):
    """MONAI Label's local datastore, that knows folders with a DICOM series.

    Beside the folder ``NAME`` of a series comes ``NAME.nii.gz`` with the same voxels, as MONAI Label does for DICOMweb:
    viewers can load it, and its DICOM SEG refers to the folder.
    """

    def _list_files(self, path: str, patterns: list[str]) -> dict[str, str]:
        if os.path.realpath(path) == os.path.realpath(self._datastore.image_path()):
            convert_series(Path(path))
        return super()._list_files(path, patterns)

    def get_image_uri(self, image_id: str) -> str:
        """The path of an image.

        Raises:
            ImageNotFoundException: no image of this name.
        """
        found = super().get_image_uri(image_id)
        if not found:
            raise ImageNotFoundException(f"there is no image {image_id!r}: {describe(sorted(self.list_images()))}")
        return found


def describe(images: list[str]) -> str:
    """What there is instead."""
    if not images:
        return "the folder of studies is empty"
    shown = ", ".join(images[:5])
    return f"expected one of {shown}" + (f" and {len(images) - 5} more" if len(images) > 5 else "")


def convert_series(studies: Path) -> None:
    """Write ``NAME.nii.gz`` beside each folder ``NAME`` that holds one DICOM series, where it is not there yet.

    A folder that the command line would refuse is left out: the log says why.
    """
    for folder in sorted(studies.iterdir()):
        target = studies / f"{folder.name}.nii.gz"
        if not folder.is_dir() or folder.name.startswith(".") or folder.name == "labels" or target.exists():
            continue
        if not any(file.is_file() and is_dicom(file) for file in folder.rglob("*")):
            continue
        # In a folder of its own first, so that it appears whole.
        side = studies / ".converting" / target.name
        side.parent.mkdir(exist_ok=True)
        try:
            as_nifti(folder, side)
            os.replace(side, target)
        except ValueError as error:
            # One broken series must not keep the server from serving the others.
            logger.warning("%s is left out: %s; here each volume wants a whole folder of its own", folder, error)
        side.unlink(missing_ok=True)
        side.parent.rmdir()


def as_nifti(series: Path, target: Path) -> None:
    """Write the volume of a DICOM folder as a NIfTI file, voxel by voxel where the command line reads it.

    Raises:
        ValueError: see :func:`.common.reading.volume.read_volume`.
    """
    volume = read_volume(series)
    for note in volume.meta["notes"]:
        logger.warning("%s: %s", series, note)
    values = volume.numpy()[0]
    # Most are stored with 16 bits: half the file, and nothing lost.
    short = values.astype(np.int16)
    save_label_volume(target, short if (short == values).all() else values, volume.affine.numpy(), series)


def dicom_to_nifti(series_dir: str, is_seg: bool = False) -> str:
    """MONAI Label's function for series from DICOMweb, with ours for images."""
    if is_seg:
        return convert.dicom_to_nifti(series_dir, is_seg=True)
    descriptor, target = tempfile.mkstemp(suffix=".nii.gz")
    os.close(descriptor)
    as_nifti(Path(series_dir), Path(target))
    return target


dicom.dicom_to_nifti = dicom_to_nifti
