# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Masks of every kind as one binary mask for each label: index masks, colours, black and white, one file a label."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..common.files import existing
from ..common.label_pictures import (
    SHOWN,
    LabelPicture,
    binary_map,
    colour_map,
    read_label_picture,
    shown,
    value_map,
)
from ..common.label_table import LabelNames
from ..common.reading.options import MAX_PIXELS
from ..image_files import FORMATS, PICTURES, read_pixels


def names_in(table: LabelNames, label: str | Mapping[str, str]) -> list[str]:
    """The names of a mask's labels, in order."""
    names = [key if isinstance(key, str) else table[key] for key in table]
    return list(dict.fromkeys([*names, *label])) if isinstance(label, Mapping) else names


def read_masks(
    label: str | Mapping[str, str], table: LabelNames, max_pixels: int = MAX_PIXELS
) -> dict[str, np.ndarray]:
    """The masks (H, W), bool, of every name that the mask could hold, whether it does or not.

    Args:
        label: the file of a mask, or ``{name: file}`` of binary ones.
        table: what its values or colours mean. An index mask without a table has labels called ``label 1`` and so on.
            A mask of 0 and 255 is binary where the table names one label.
        max_pixels: of the mask.

    Raises:
        ValueError: a file that cannot be read; values or colours that the table does not have.
    """
    if isinstance(label, Mapping):
        return {name: binary_map(_picture(file, max_pixels)) for name, file in label.items()}
    picture = _picture(label, max_pixels)
    if table and all(isinstance(key, str) for key in table):
        return _from_colours(colour_map(picture), table, label)
    return _from_values(value_map(picture, list(table) or None), table, label)


def _picture(file: str, max_pixels: int) -> LabelPicture:
    """The mask of any file: pictures as :mod:`..common.label_pictures` reads them, DICOM and volumes of one slice."""
    if str(file).lower().endswith(PICTURES):
        return read_label_picture(existing(file, FORMATS), max_pixels)
    values = read_pixels(file, max_pixels).values
    grey = values.shape[-1] == 1
    colours = values.astype(np.uint8) if values.dtype == np.uint8 and not grey else None
    return LabelPicture(Path(file), values[..., 0] if (values == values[..., :1]).all() else None, colours)


def _from_values(values: np.ndarray, table: Mapping[int, str], file: str) -> dict[str, np.ndarray]:
    found = [int(v) for v in np.unique(values) if v]
    table = table or {value: f"label {value}" for value in found}
    unknown = [v for v in found if v not in table]
    if unknown:
        named = ", ".join(f"{value} {name}" for value, name in table.items())
        raise ValueError(
            f"{file}: unknown label {shown(unknown)}; expected 0 for background and {named}: name the others in the "
            "labels too, or take them out of the mask"
        )
    return {name: values == value for value, name in table.items()}


def _from_colours(values: np.ndarray, table: Mapping[str, Sequence[int]], file: str) -> dict[str, np.ndarray]:
    masks = {name: (values == np.asarray(colour)).all(-1) for name, colour in table.items()}
    rest = values.any(-1) & ~np.any(list(masks.values()), axis=0)
    if rest.any():
        colours, counts = np.unique(values[rest].reshape(-1, 3), axis=0, return_counts=True)
        most = [colours[i].tolist() for i in np.argsort(-counts)[:SHOWN]]
        more = f" and {len(colours) - SHOWN} more" if len(colours) > SHOWN else ""
        raise ValueError(
            f"{file}: {int(rest.sum())} pixels of colours that are not in the map: {most}{more}; expected black for "
            f"background and {', '.join(f'{list(c)} {n}' for n, c in table.items())}. Many colours mean that the mask "
            "was saved as JPEG or smoothed: save it as PNG"
        )
    return masks


class LoadMasksd(MapTransform):
    """A mask's file, or ``{name: file}``, -> (L, H, W) uint8, one binary channel for each label.

    What the values mean is read from the item's ``label_names``; an item without takes ``table``.

    Args:
        keys: of the masks.
        labels: the names, in the order of the channels; those that a mask does not know are empty.
        table: for items that say nothing.
        image_key: of the loaded image, whose size the mask has to have.

    Raises:
        ValueError: see :func:`read_masks`; a mask of another size than the image.
    """

    def __init__(
        self, keys: str = "label", labels: Sequence[str] = (), table: LabelNames | None = None, image_key: str = "image"
    ) -> None:
        super().__init__(keys)
        self.labels, self.table, self.image_key = list(labels), dict(table or {}), image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """See the class."""
        read = dict(data)
        size = tuple(read[self.image_key].shape[1:])
        for key in self.key_iterator(read):
            # What is larger than a large image is of another size anyhow.
            most = max(MAX_PIXELS, math.prod(size))
            masks = read_masks(read[key], read.get("label_names") or self.table, most)
            for mask in masks.values():
                if mask.shape != size:
                    height, width = mask.shape
                    raise ValueError(
                        f"{read[key]}: a mask of {width} x {height} pixels, the image {_name(read[self.image_key])} "
                        f"has {size[1]} x {size[0]}; expected the same size"
                    )
            channels = [masks[name] if name in masks else np.zeros(size, bool) for name in self.labels]
            stacked = torch.from_numpy(np.stack(channels).astype(np.uint8)) if channels else torch.zeros(0, *size)
            read[key] = MetaTensor(stacked)
        return read


def _name(image: Any) -> str:
    return str(getattr(image, "meta", {}).get("filename_or_obj", ""))
