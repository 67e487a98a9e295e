# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""An image of the kind that a bundle takes, with a label: a bright ball, or a bright disc."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from PIL import Image

SIDE = 48


class Sample(NamedTuple):
    """Files of a sample.

    Attributes:
        image: a NIfTI volume, or a PNG.
        data_list: JSON with the image in ``training`` and ``validation``.
        click: a voxel of the object, None for images, which are segmented by name.
    """

    image: Path
    data_list: Path
    click: list[int] | None

    def inference(self) -> dict[str, Any]:
        """What a first user gives to inference.json."""
        return {"image": str(self.image)} | ({"foreground": [self.click]} if self.click else {})

    def training(self, output: Path) -> dict[str, Any]:
        """The same for train.json."""
        return {
            "data_list_file_path": str(self.data_list),
            "dataset_dir": str(self.data_list.parent),
            "output_dir": str(output),
        }


def make_sample(folder: Path, metadata: dict[str, Any]) -> Sample:
    """Write one of the bundle's dimension, whose label is the metadata's first name."""
    formats = metadata["network_data_format"]
    dimension = len(formats["inputs"]["image"]["spatial_shape"])
    name = formats["outputs"]["pred"].get("channel_def", {}).get("1", "object")
    centre = np.array([SIDE // 2, SIDE // 3, SIDE // 2][:dimension])
    distance = np.linalg.norm(np.indices((SIDE,) * dimension).T - centre, axis=-1).T
    label = (distance < SIDE / 5).astype(np.uint8)
    pixels = (60 + 120 * label + np.random.default_rng(0).normal(0, 8, label.shape)).clip(0, 255).astype(np.uint8)
    folder.mkdir(parents=True)
    if dimension == 3:
        files = folder / "image.nii.gz", folder / "label.nii.gz"
        # Oblique, anisotropic, one axis the other way round: grids as they come.
        turn = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]) @ np.diag([-1.0, 1.2, 2.5])
        affine = np.block([[turn, np.array([[7.0], [-3.0], [11.0]])], [np.zeros((1, 3)), 1]])
        for file, values in zip(files, (pixels.astype(np.int16), label), strict=True):
            nib.save(nib.Nifti1Image(values, affine), file)
    else:
        files = folder / "image.png", folder / "label.png"
        for file, values in zip(files, (pixels, label), strict=True):
            Image.fromarray(values).save(file)
    item = {"image": files[0].name, "label": files[1].name, "label_names": {"1": name}}
    data_list = folder / "data_list.json"
    data_list.write_text(json.dumps({"training": [item], "validation": [item]}))
    return Sample(files[0], data_list, centre.tolist() if dimension == 3 else None)
