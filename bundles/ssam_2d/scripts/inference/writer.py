# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The index map, its description, its picture and its probabilities, as files."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, SaveImaged
from PIL import Image

from ..common.files import whole_files
from ..common.flags import flag
from ..common.label_volume import EXTENSIONS, save_label_volume
from ..common.overlay import Picture, save_overlay
from ..common.result_files import ResultFiles
from ..common.weights import describe_weights
from ..image_files import is_volume
from .request import unpack
from .scene import Scene

# Slices of a volume in its picture: those with most of all labels.
SHOWN_SLICES = 8


class SaveIndexMapd(SaveImaged):
    """Writes for each image ``NAME_POSTFIX`` with these endings, every one whole or not at all:

    - ``.png``, the index map of a 2D image on its own pixels; of a volume ``.nii.gz`` (or ``output_ext``) on its grid,
      with the very header of a NIfTI image.
    - ``.json``: what ``data["result"]`` says, from ``Summarised``.
    - ``_overlay.png``: labels over the image, with a legend.
    - ``_probabilities.tif``, a page a label, or ``.nii.gz``, a channel a label, where the inferer gives them.

    (A ``SaveImaged``, so that servers that write results themselves leave it out.)

    Args:
        keys: of the index map.
        image_key: of the image.
        output_dir: made where it does not exist.
        output_postfix: added to the image's name.
        output_ext: of volumes: ``.nii.gz``, ``.nii``, ``.nrrd`` or ``.mha``.
        separate_folder: a folder for each image.
        overlay: write the picture.
        weights: the file that is named, with its hash, in the description.
        version: of the bundle.
        items: the images of this call, whose results are checked for a place before the work; None on servers.

    Raises:
        ValueError: an extension of another kind, or a folder that cannot be written to.
    """

    def __init__(
        self,
        keys: str = "pred",
        image_key: str = "image",
        output_dir: str = "./output",
        output_postfix: str = "seg",
        output_ext: str = ".nii.gz",
        separate_folder: bool = False,
        overlay: bool = True,
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
        self.overlay = flag("overlay", overlay)
        self.weights = weights
        self.version = version
        self.files.check([item["image"] for item in items or ()], self._endings)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            labels, image = d[key], d[self.image_key]
            source = str(image.meta["filename_or_obj"])
            extension = self.extension if labels.ndim == 4 else ".png"
            folder, stem = self.files.place(source, extension)
            file = stem + extension
            result = {"image": source, **d["result"], "mask": file, "bundle_version": self.version}
            result["weights"] = describe_weights(self.weights) if self.weights else None
            with whole_files(folder) as side:
                self._write_labels(side / file, labels, source)
                if "probabilities" in labels.meta:
                    result["probabilities"] = self._write_probabilities(side, stem, labels)
                if self.overlay:
                    result["overlay"] = f"{stem}_overlay.png"
                    scene = unpack(image[None])
                    write_overlay(side / result["overlay"], scene, seen(scene, labels.as_tensor()[0]), d["result"])
                (side / f"{stem}.json").write_text(json.dumps(result, indent=2))
            d["saved_to"] = str(folder / file)
        return d

    def _endings(self, source: str) -> list[str]:
        first, probabilities = (self.extension, ".nii.gz") if is_volume(source) else (".png", ".tif")
        return [first, ".json", f"_probabilities{probabilities}", *(["_overlay.png"] if self.overlay else [])]

    def _write_labels(self, path: Path, labels: MetaTensor, source: str) -> None:
        values = labels.as_tensor()[0].cpu().numpy()
        if labels.ndim == 4:
            save_label_volume(path, values, np.asarray(labels.meta["original_affine"], dtype=np.float64), source)
        else:
            Image.fromarray(values).save(path)

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
