# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A folder of images, some of which may be DICOM series."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import SimpleITK
from monailabel.datastore.local import LocalDatastore
from monailabel.datastore.utils.convert import dicom_to_nifti
from monailabel.interfaces.exception import ImageNotFoundException

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
    """Write ``NAME.nii.gz`` beside each folder ``NAME`` that holds one DICOM series, where it is not there yet."""
    for folder in sorted(studies.iterdir()):
        target = studies / f"{folder.name}.nii.gz"
        if not folder.is_dir() or folder.name.startswith(".") or folder.name == "labels" or target.exists():
            continue
        series = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        if len(series) > 1:
            logger.warning("%s holds %d DICOM series: give each one a folder of its own", folder, len(series))
        if len(series) != 1:
            continue
        converted = dicom_to_nifti(str(folder))
        # Under a name that no pattern of images fits, so that it appears whole.
        side = studies / f".{folder.name}.part"
        shutil.move(converted, side)
        os.replace(side, target)
