# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A folder of images and DICOM series as MONAI Label's datastore."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import RLock
from typing import Any

from monailabel.datastore import dicom
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

from .common.reading.dicom_tags import is_dicom
from .convert import convert_apart, dicom_to_nifti

logger = logging.getLogger(__name__)
REMEDY = (
    "the options are those of the server's start: --series FOLDER=NUMBER of one folder, --irregular resample and "
    "--slice-thickness MM of all; or make it a whole series in a folder of its own"
)


def one_at_a_time(function: Callable) -> Callable:
    """For methods of a store that threads share: MONAI Label empties its list before it fills it again."""

    @functools.wraps(function)
    def locked(self: SeriesFolders, *given: Any, **named: Any) -> Any:
        with self.turn:
            return function(self, *given, **named)

    return locked


class SeriesFolders(LocalDatastore):
    """MONAI Label's local datastore, that knows folders with a DICOM series and keeps to its own folder.

    Beside the folder ``NAME`` of a series comes ``NAME.nii.gz`` with the same voxels, as MONAI Label does for DICOMweb:
    viewers can load it, and its DICOM SEG refers to the folder.

    Args:
        path: of the studies.
        folders: where links among the studies may lead to, beside the studies themselves.
        converts: whether DICOM series are made into files; one process alone should.
        options: see MONAI Label.
    """

    def __init__(self, path: str, folders: Sequence[str] = (), converts: bool = True, **options: Any) -> None:
        self.turn = RLock()
        self.converts = converts
        self.roots = [Path(place).resolve() for place in (path, *folders)]
        self.left_out: dict[Path, object] = {}
        # By folder: when it was as it is, and why no image was made of it.
        self.refused: dict[Path, tuple[int, str]] = {}
        super().__init__(path, **options)

    def _list_files(self, path: str, patterns: list[str]) -> dict[str, str]:
        if self.converts and os.path.realpath(path) == os.path.realpath(self._datastore.image_path()):
            self._convert_series(Path(path))
        found = super()._list_files(path, patterns)
        return {name: file for name, file in found.items() if self._is_ours(Path(path) / file)}

    def _is_inside(self, place: Path) -> bool:
        return any(place.is_relative_to(root) for root in self.roots)

    def _is_ours(self, file: Path) -> bool:
        """Whether it is a file, and lies in one of the folders when all links are followed."""
        place = file.resolve()
        if place.is_file() and self._is_inside(place):
            return True
        if file not in self.left_out:
            self.left_out[file] = place
            logger.warning("%s is left out: it is no file, or a link that leads out (--allow-folder FOLDER)", file)
        return False

    def _convert_series(self, studies: Path) -> None:
        """Make the file of each folder that holds one DICOM series; the log says which are left out, and why."""
        fresh = {folder: converted(folder) for folder in sorted(studies.iterdir()) if self._is_fresh(folder)}
        for folder, reason in convert_apart(fresh).items():
            # One broken series must not keep the server from serving the others.
            said = f"{reason.removeprefix(f'{folder}: ')} ({REMEDY})"
            self.refused[folder] = (folder.stat().st_mtime_ns, said)
            logger.warning("%s is left out: %s", folder, said)

    def refusals(self) -> dict[str, str]:
        """Why a folder of DICOM files is no image, by its name."""
        return {folder.name: said for folder, (_, said) in self.refused.items() if not converted(folder).exists()}

    def _is_fresh(self, folder: Path) -> bool:
        """Whether it may hold a series that was not converted, nor left out as it is."""
        if folder.name.startswith(".") or folder.name == "labels" or not folder.is_dir() or converted(folder).exists():
            return False
        if not self._is_inside(folder.resolve()):
            return False
        if folder in self.refused and self.refused[folder][0] == folder.stat().st_mtime_ns:
            return False
        return any(file.is_file() and is_dicom(file) for file in folder.rglob("*"))

    def get_image_uri(self, image_id: str) -> str:
        """The path of an image.

        Raises:
            ImageNotFoundException: no image of this name, or a folder of which none could be made, with the reason.
        """
        found = super().get_image_uri(image_id)
        if not found and image_id in self.refusals():
            raise ImageNotFoundException(f"{image_id} is left out: {self.refusals()[image_id]}")
        if not found or not self._is_ours(Path(found)):
            raise ImageNotFoundException(f"there is no image {image_id!r}: {describe(sorted(self.list_images()))}")
        return found

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """The path of a label.

        Raises:
            LabelNotFoundException: no label of this name.
        """
        found = super().get_label_uri(label_id, label_tag)
        if not found or not self._is_ours(Path(found)):
            raise LabelNotFoundException(f"there is no label {label_id!r} with the tag {label_tag!r}")
        return found

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Keep an image.

        Raises:
            FileExistsError: something of this name is there; it is not replaced.
        """
        _, ending = self._to_id(os.path.basename(image_filename))
        place = Path(self._datastore.image_path()) / self._filename(image_id, ending)
        if image_id in self._datastore.objects or os.path.lexists(place):
            raise FileExistsError(f"there is an image {image_id!r} already: give this one another name")
        return super().add_image(image_id, image_filename, image_info)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Keep a label; an earlier one with its tag is replaced.

        Raises:
            ValueError: a link in its place.
        """
        _, ending = self._to_id(os.path.basename(label_filename))
        place = Path(self._datastore.label_path(label_tag)) / self._filename(image_id, ending)
        if place.is_symlink() or not place.parent.resolve().is_relative_to(self.roots[0]):
            raise ValueError(
                f"the labels with the tag {label_tag!r} would leave the folder of the studies by a link: remove it, or "
                f"give another tag"
            )
        return super().save_label(image_id, label_filename, label_tag, label_info)


SHARED = (
    "_reconcile_datastore add_image datalist get_image_info get_image_uri get_label_info get_label_uri "
    "get_labeled_images get_unlabeled_images json list_images remove_label save_label status update_image_info "
    "update_label_info"
)
for name in SHARED.split():
    setattr(SeriesFolders, name, one_at_a_time(getattr(SeriesFolders, name)))


def converted(folder: Path) -> Path:
    """Where the file of a series is, or will be."""
    return folder.parent / f"{folder.name}.nii.gz"


def describe(images: list[str]) -> str:
    """What there is instead."""
    if not images:
        return "the folder of studies is empty"
    shown = ", ".join(images[:5])
    return f"expected one of {shown}" + (f" and {len(images) - 5} more" if len(images) > 5 else "")


# Of series from DICOMweb.
dicom.dicom_to_nifti = dicom_to_nifti
