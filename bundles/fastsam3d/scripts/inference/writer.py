# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The label map, its description and its picture, as files."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import SaveImaged

from ..common.digits import shown
from ..common.files import whole_files
from ..common.flags import flag
from ..common.geometry import Grid
from ..common.label_volume import EXTENSIONS, save_label_volume
from ..common.preview import save_preview
from ..common.result_files import ResultFiles
from ..common.weights import describe_weights


class SaveSegmentationd(SaveImaged):
    """Writes ``NAME_POSTFIX`` with the extension of the label map, ``.json`` and ``.png`` for each image.

    A NIfTI mask of a NIfTI image has the very header of the image: shape, affine, codes and units. Every file appears
    whole or not at all. (A ``SaveImaged``, so that servers that write results themselves leave it out.)

    Args:
        keys: of the label map, with ``data["result"]`` from ``Summarised``.
        image_key: of the image, for the preview.
        output_dir: made where it does not exist.
        output_postfix: added to the image's name.
        output_ext: ``.nii.gz``, ``.nii``, ``.nrrd`` or ``.mha``.
        separate_folder: a folder for each image.
        preview: write the picture.
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
        preview: bool = True,
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
        self.preview = flag("preview", preview)
        self.weights = weights
        self.version = version
        self.files.check([item["image"] for item in items or ()], self._endings)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            labels, source = d[key], str(d[self.image_key].meta["filename_or_obj"])
            folder, stem = self.files.place(source, self.extension)
            weights = describe_weights(self.weights) if self.weights else None
            result = {"image": source, **d["result"], "weights": weights, "bundle_version": self.version}
            result["mask"] = stem + self.extension
            with whole_files(folder) as side:
                values = labels.as_tensor()[0].cpu().numpy()
                affine = np.asarray(labels.meta["original_affine"], dtype=np.float64)
                save_label_volume(side / result["mask"], values, affine, source)
                (side / f"{stem}.json").write_text(json.dumps(result, indent=2))
                if self.preview:
                    self._write_preview(side / f"{stem}.png", d[self.image_key], labels, result)
            d["saved_to"] = str(folder / result["mask"])
        return d

    def _endings(self, source: str) -> list[str]:
        return [self.extension, ".json", *([".png"] if self.preview else [])]

    def _write_preview(self, path: Path, image: Any, labels: Any, result: dict[str, Any]) -> None:
        objects = result["objects"]
        clicks = [(p, v) for o in objects for p, v in zip(*_clicks(o), strict=True)]
        values = labels.as_tensor()[0].cpu().numpy()
        grid = Grid(np.asarray(labels.meta["affine"], dtype=np.float64), values.shape)
        if clicks:
            voxel = clicks[0][0]
        elif values.any():
            voxel = [float(np.median(axis)) for axis in np.nonzero(values)]
        else:
            voxel = [(n - 1) / 2 for n in grid.shape]
        names = [f"{o['name']} ({shown(o['volume_ml'])} mL)" for o in objects]
        window = tuple(result["intensity_bounds"])
        save_preview(path, image.as_tensor()[0].cpu().numpy(), values, grid, window, names, clicks, voxel)


def _clicks(described: dict[str, Any]) -> tuple[list, list]:
    return described["prompts"]["points"], described["prompts"]["point_labels"]
