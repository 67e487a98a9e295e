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

from .files import whole_files
from .flags import flag
from .label_volume import EXTENSIONS, save_label_volume
from .result_files import ResultFiles
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

    Raises:
        ValueError: an extension of another kind, a switch that is neither true nor false, or a folder that cannot be
            written to.
    """

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
        self.files.check([item["image"] for item in items or ()], self.endings)

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
        with whole_files(folder) as side:
            described.update(self.write(side, stem, image, labels, described))
            (side / f"{stem}.json").write_text(json.dumps(described, indent=2))
        return folder / described["mask"]

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


def save_volume(path: Path, labels: MetaTensor, source: str) -> None:
    """Write a mask (1, X, Y, Z) on the grid of the image that it was made from, see :func:`save_label_volume`."""
    affine = np.asarray(labels.meta["original_affine"], dtype=np.float64)
    save_label_volume(path, labels.as_tensor()[0].cpu().numpy(), affine, source)
