# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A folder of images, some of which may be DICOM series."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import SimpleITK
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.exception import ImageNotFoundException

logger = logging.getLogger(__name__)
# Under this name ITK notes that slices are not where even distances would put them.
UNEVEN = "ITK_non_uniform_sampling_deviation"


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

    A folder with several series, or one that lacks slices, is left out: the log says so.
    """
    for folder in sorted(studies.iterdir()):
        target = studies / f"{folder.name}.nii.gz"
        if not folder.is_dir() or folder.name.startswith(".") or folder.name == "labels" or target.exists():
            continue
        series = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        if not series:
            continue
        try:
            image = read_series(folder, series)
        except (RuntimeError, ValueError) as error:
            # One broken series must not keep the server from serving the others.
            logger.warning("%s is left out: %s", folder, str(error).strip().splitlines()[-1])
            continue
        # In a folder of its own first, so that it appears whole.
        side = studies / ".converting" / target.name
        side.parent.mkdir(exist_ok=True)
        SimpleITK.WriteImage(image, str(side))
        os.replace(side, target)
        side.parent.rmdir()


def read_series(folder: Path, series: Sequence[str]) -> SimpleITK.Image:
    """The one series of a folder.

    Raises:
        ValueError: several series, or slices at uneven distances, as where one is missing.
        RuntimeError: files that cannot be read.
    """
    if len(series) > 1:
        raise ValueError(f"it holds {len(series)} DICOM series, give each one a folder of its own")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series[0]))
    image = reader.Execute()
    if image.HasMetaDataKey(UNEVEN):
        raise ValueError("its slices lie at uneven distances: some are missing, or it is no single volume")
    return image
