# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The label map, its description and its picture, as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from ..common.digits import shown
from ..common.flags import flag
from ..common.geometry import Grid
from ..common.label_volume import save_label_volume
from ..common.preview import save_preview
from ..common.reading.volume import UNIT
from ..common.result_writer import ResultWriterd, measured_volume, save_volume

PROBABILITIES = "_probabilities.nii.gz"


class SaveSegmentationd(ResultWriterd):
    """Writes ``NAME_POSTFIX`` with the extension of the label map, ``.json`` and ``.png`` for each image.

    A NIfTI mask of a NIfTI image has the very header of the image: shape, affine, codes and units.

    Args:
        keys: of the label map.
        preview: write the picture.
        options: see :class:`..common.result_writer.ResultWriterd`, also for what is raised.
    """

    maker = "fastsam3d"

    def __init__(self, keys: str = "pred", preview: bool | str = True, **options: Any) -> None:
        super().__init__(keys, picture=flag("preview", preview), **options)

    def is_volume(self, source: str) -> bool:
        """Always: this bundle reads no pictures."""
        return True

    def measure(self, image: MetaTensor, labels: np.ndarray, result: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Sizes and intensities of each object."""
        values = image.as_tensor()[0].cpu().numpy()
        return measured_volume(labels, image.meta["affine"], result, values, image.meta.get(UNIT))

    def endings(self, source: str) -> list[str]:
        """Of the label map, the description, the probabilities and the picture."""
        return [self.extension, ".json", PROBABILITIES, *([".png"] if self.picture else [])]

    def write(
        self, side: Path, stem: str, image: MetaTensor, labels: MetaTensor, result: Mapping[str, Any]
    ) -> dict[str, str]:
        """Label map, picture, and probabilities where the inferer gives them."""
        save_volume(side / result["mask"], labels, result["image"])
        if self.picture:
            self.draw(side / f"{stem}.png", image, labels, result)
        if "probabilities" not in labels.meta:
            return {}
        every = torch.as_tensor(labels.meta["probabilities"]).cpu().numpy()
        # Of one object a volume as the image, of several a further axis with one for each.
        values = every[0] if len(every) == 1 else np.moveaxis(every, 0, -1)
        affine = np.asarray(labels.meta["original_affine"], dtype=np.float64)
        source = result["image"] if len(every) == 1 else ""
        save_label_volume(side / (stem + PROBABILITIES), values, affine, source)
        return {"probabilities": stem + PROBABILITIES}

    def draw(self, path: Path, image: MetaTensor, labels: MetaTensor, result: Mapping[str, Any]) -> None:
        """Three planes through the first click, or through the middle of the objects."""
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
