# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The index map, its description, its picture and its probabilities, as files."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from PIL import Image

from ..common.flags import flag
from ..common.measures import picture_measures
from ..common.overlay import Picture, save_overlay
from ..common.reading.volume import UNIT
from ..common.result_writer import ResultWriterd, measured_volume, save_volume
from ..image_files import is_volume, read_pixels, read_slices
from .request import unpack
from .scene import Scene

# Slices of a volume in its picture: those with most of all labels.
SHOWN_SLICES = 8


class SaveIndexMapd(ResultWriterd):
    """Writes for each image ``NAME_POSTFIX`` with these endings:

    - ``.png``, the index map of a 2D image on its own pixels; of a volume ``.nii.gz`` (or ``output_ext``) on its grid,
      with the very header of a NIfTI image.
    - ``.json``: what ``data["result"]`` says, from ``Summarised``.
    - ``_overlay.png``: labels over the image, with a legend.
    - ``_probabilities.tif``, a page a label, or ``.nii.gz``, a channel a label, where the inferer gives them.

    Args:
        keys: of the index map.
        overlay: write the picture.
        options: see :class:`..common.result_writer.ResultWriterd`, also for what is raised.
    """

    maker = "ssam_2d"

    def __init__(self, keys: str = "pred", overlay: bool | str = True, **options: Any) -> None:
        super().__init__(keys, picture=flag("overlay", overlay), **options)

    def is_volume(self, source: str) -> bool:
        """By its name."""
        return is_volume(source)

    def measure(self, image: MetaTensor, labels: np.ndarray, result: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Sizes and intensities of each object: those of the file, which the network saw through a window."""
        if labels.ndim == 3:
            stored = read_slices(result["image"], self.further.reading)
            return measured_volume(labels, stored.affine, result, stored.as_tensor()[0].numpy(), stored.meta.get(UNIT))
        pixels = read_pixels(result["image"], sys.maxsize)
        values = pixels.values[..., 0] if pixels.values.shape[-1] == 1 else None
        return [picture_measures(labels == o["label"], pixels.spacing, values, pixels.unit) for o in result["objects"]]

    def endings(self, source: str) -> list[str]:
        """Of the index map, the description, the probabilities and the picture."""
        first, probabilities = (self.extension, ".nii.gz") if is_volume(source) else (".png", ".tif")
        return [first, ".json", f"_probabilities{probabilities}", *(["_overlay.png"] if self.picture else [])]

    def write(
        self, side: Path, stem: str, image: MetaTensor, labels: MetaTensor, result: Mapping[str, Any]
    ) -> dict[str, str]:
        """Index map, probabilities and picture; the names of the last two."""
        names = {}
        if labels.ndim == 4:
            save_volume(side / result["mask"], labels, result["image"])
        else:
            Image.fromarray(labels.as_tensor()[0].cpu().numpy()).save(side / result["mask"])
        if "probabilities" in labels.meta:
            names["probabilities"] = self._write_probabilities(side, stem, labels)
        if self.picture:
            names["overlay"] = f"{stem}_overlay.png"
            self.draw(side / names["overlay"], image, labels, result)
        return names

    def draw(self, path: Path, image: MetaTensor, labels: MetaTensor, result: Mapping[str, Any]) -> None:
        """The labels over the picture, or over the slices of a volume with most in them."""
        scene = unpack(image[None])
        write_overlay(path, scene, seen(scene, labels.as_tensor()[0]), result)

    def _write_probabilities(self, side: Path, stem: str, labels: MetaTensor) -> str:
        """The file's name."""
        every = torch.as_tensor(labels.meta["probabilities"]).float().cpu().numpy()
        if labels.ndim == 4:
            name = f"{stem}_probabilities.nii.gz"
            affine = np.asarray(labels.meta["original_affine"], dtype=np.float64)
            nib.save(nib.Nifti1Image(np.moveaxis(every, 0, -1), affine), side / name)
        else:
            name = f"{stem}_probabilities.tif"
            first, *others = [Image.fromarray(page) for page in every]
            first.save(side / name, save_all=True, append_images=others)
        return name


def seen(scene: Scene, labels: torch.Tensor) -> torch.Tensor:
    """(n, H, W) of a stored index map."""
    values = labels.to(torch.int32)
    return values[None] if scene.plane is None else scene.plane.slices(values)


def write_overlay(path: Path, scene: Scene, labels: torch.Tensor, result: Mapping[str, Any]) -> None:
    """The picture of a 2D image, or of the slices of a volume with most in them."""
    covered = (labels > 0).flatten(1).sum(1)
    shown = sorted(torch.argsort(covered, descending=True, stable=True)[:SHOWN_SLICES].tolist())
    if scene.plane is not None and bool(covered.any()):
        shown = [i for i in shown if covered[i]]
    columns, rows, _ = scene.spacing
    points, boxes = marks(scene)
    pictures = [
        Picture(
            scene.picture(i).permute(1, 2, 0).cpu().numpy(),
            labels[i].cpu().numpy(),
            "" if scene.plane is None else f"slice {i}",
            aspect=rows / columns if rows * columns else 1.0,
            points=[mark for at, mark in points if at == i],
            boxes=[box for first, last, box in boxes if first <= i <= last],
        )
        for i in shown
    ]
    names = {int(v): n for v, n in result["label_names"].items()}
    save_overlay(path, pictures, names)


def marks(scene: Scene) -> tuple[list, list]:
    """Clicks as (slice, ((column, row), label)) and boxes as (first slice, last slice, (left, top, right, bottom))."""
    points, boxes = [], []
    for prompt in scene.objects:
        for point, label in zip(prompt.points, prompt.labels, strict=True):
            column, row, index = scene.place(point)
            points.append((round(index), ((column, row), label)))
        if prompt.box:
            boxes.append(scene.box(prompt.box))
    return points, boxes


class ColumnsFirstd(MapTransform):
    """(1, H, W) of a 2D image -> (W, H), which is how servers that write results themselves expect it.

    Volumes, (1, X, Y, Z), stay as they are.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            if d[key].ndim == 3:
                d[key] = d[key][0].transpose(0, 1)
        return d
