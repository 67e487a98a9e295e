# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The files of an image's result, as the last step of inference writes them."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import SaveImaged

from .dicom_out.segments import Maker
from .files import whole_files
from .flags import flag
from .further_files import FurtherFiles
from .geometry import Grid
from .label_volume import EXTENSIONS, save_label_volume
from .measures import measures
from .reading.options import Reading
from .result_files import ResultFiles, check_further
from .weights import describe_weights


class ResultWriterd(SaveImaged):
    """Writes a mask ``NAME_POSTFIX`` and its description ``.json`` for each image, and what a bundle adds to them.

    Every file appears whole or not at all. (A ``SaveImaged``, so that servers that write results themselves leave it
    out.)

    Args:
        keys: of the mask, with ``data["result"]`` from ``Summarised``.
        image_key: of the image.
        output_dir: made where it does not exist.
        output_postfix: added to the image's name.
        output_ext: of volumes: ``.nii.gz``, ``.nii``, ``.nrrd`` or ``.mha``.
        separate_folder: a folder for each image.
        picture: write a picture too.
        weights: the file that is named, with its hash, in the description.
        version: of the bundle.
        items: the images of this call, whose results are checked for a place before the work; None on servers.
        dicom: also write the masks of DICOM images as DICOM: ``seg``, ``rtstruct``, or a list of both.
        mesh: also write the surface of each label of a volume: ``stl``, ``ply`` or ``obj``.
        reading: how the images were read.

    Raises:
        ValueError: an extension of another kind, a switch that is neither true nor false, a folder that cannot be
            written to, or DICOM asked for of other images.
    """

    # The bundle, as DICOM names who made a mask.
    maker: str

    def __init__(
        self,
        keys: str = "pred",
        image_key: str = "image",
        output_dir: str = "./output",
        output_postfix: str = "seg",
        output_ext: str = ".nii.gz",
        separate_folder: bool = False,
        picture: bool | str = True,
        weights: str | None = None,
        version: str | None = None,
        items: Sequence[Mapping[str, Any]] | None = None,
        dicom: str | Sequence[str] | None = None,
        mesh: str | None = None,
        reading: Reading | None = None,
    ) -> None:
        super().__init__(keys, output_dir=output_dir, output_ext=output_ext, resample=False, print_log=False)
        if output_ext not in EXTENSIONS:
            raise ValueError(f"output_ext {output_ext!r}: expected one of {', '.join(EXTENSIONS)}")
        self.image_key = image_key
        self.files = ResultFiles(output_dir, output_postfix, separate_folder)
        self.extension = output_ext
        self.picture = flag("picture", picture)
        self.weights = weights
        self.version = version
        self.further = FurtherFiles.asked(dicom, mesh, reading, Maker(self.maker, version or "0"))
        sources = [item["image"] for item in items or ()]
        for source in sources:
            self.further.check(source, self.is_volume(source))
        self.files.check(sources, lambda source: [*self.endings(source), *self.further.endings])

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            labels, image = d[key], d[self.image_key]
            extension = self.extension if labels.ndim == 4 else ".png"
            place = self.files.place(str(image.meta["filename_or_obj"]), extension)
            d["saved_to"] = str(self.save(place, extension, image, labels, d["result"]))
        return d

    def write_to(self, output_dir: str | Path) -> None:
        """From now on results go to another folder. Raises ValueError where it cannot be written to."""
        self.files = ResultFiles(output_dir, self.files.postfix, self.files.separate_folder)

    def save(
        self, place: tuple[Path, str], extension: str, image: MetaTensor, labels: MetaTensor, result: Mapping[str, Any]
    ) -> Path:
        """Write the files of one image; the path of the mask.

        Args:
            place: the folder, and the name of the files without an ending.
            extension: of the mask.
            image: (C, *space).
            labels: (1, *space), the mask.
            result: the description.
        """
        folder, stem = place
        weights = describe_weights(self.weights) if self.weights else None
        source = str(image.meta["filename_or_obj"])
        # Whole, so that a later run knows whether it is another image of this name. Of an array there is no file.
        path = Path(source).expanduser()
        source = os.path.abspath(path) if source and path.exists() else source
        described = {"image": source, **result, "mask": stem + extension}
        described.update(weights=weights, bundle_version=self.version)
        values = labels.as_tensor()[0].cpu().numpy()
        measured = self.measure(image, values, described)
        described["objects"] = [{**o, **m} for o, m in zip(described["objects"], measured, strict=True)]
        with whole_files(folder) as side:
            described.update(self.write(side, stem, image, labels, described))
            further = self._write_further(side, stem, labels, described)
            described.update(further, notes=[*described["notes"], *further["notes"]])
            check_further(folder, stem, side)
            (side / f"{stem}.json").write_text(json.dumps(described, indent=2))
        return folder / described["mask"]

    def _write_further(self, side: Path, stem: str, labels: MetaTensor, described: Mapping[str, Any]) -> dict[str, Any]:
        values = labels.as_tensor()[0].cpu().numpy()
        if labels.ndim == 3:
            return self.further.write(side, stem, values.T[..., None], None, described)
        affine = np.asarray(labels.meta["affine"], dtype=np.float64)
        return self.further.write(side, stem, values, affine, described)

    @abstractmethod
    def is_volume(self, source: str) -> bool:
        """Whether an image is a volume; else it is a picture."""

    @abstractmethod
    def measure(self, image: MetaTensor, labels: np.ndarray, result: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What is measured of each of the result's objects, see :mod:`.measures`.

        Args:
            image: (C, *space).
            labels: (*space), the mask.
            result: the description.
        """

    @abstractmethod
    def endings(self, source: str) -> list[str]:
        """What follows the stem in the names of the files of an image, the mask's first."""

    @abstractmethod
    def write(
        self, side: Path, stem: str, image: MetaTensor, labels: MetaTensor, result: Mapping[str, Any]
    ) -> dict[str, str]:
        """Write the mask and what else there is.

        Args:
            side: folder to write to.
            stem: of all names.
            image: (C, *space).
            labels: (1, *space), the mask.
            result: the description, with the mask's name as ``mask``.

        Returns:
            names of further files, for the description.
        """

    @abstractmethod
    def draw(self, path: Path, image: MetaTensor, labels: MetaTensor, result: Mapping[str, Any]) -> None:
        """Write a picture of the mask over the image; arguments as of :meth:`write`."""


def measured_volume(
    labels: np.ndarray, affine: Any, result: Mapping[str, Any], image: np.ndarray, unit: str | None
) -> list[dict[str, Any]]:
    """:func:`.measures.measures` of each object of a result, in a mask (X, Y, Z) and the image on its grid."""
    grid = Grid(np.asarray(affine, dtype=np.float64), labels.shape)
    return [measures(labels == o["label"], grid, image, unit) for o in result["objects"]]


def save_volume(path: Path, labels: MetaTensor, source: str) -> None:
    """Write a mask (1, X, Y, Z) on the grid of the image that it was made from, see :func:`save_label_volume`."""
    affine = np.asarray(labels.meta["original_affine"], dtype=np.float64)
    save_label_volume(path, labels.as_tensor()[0].cpu().numpy(), affine, source)
