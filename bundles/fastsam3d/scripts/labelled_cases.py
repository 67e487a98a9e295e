# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Labelled volumes for training and evaluation. All of them are checked before either starts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.data import MetaTensor
from monai.transforms import MapTransform
from tqdm import tqdm

from .common.label_table import names_of_values
from .common.reading.options import Reading
from .volumes import LoadVolumed, read_labels

# As many problems as a person reads at once.
SHOWN = 10


class LoadLabelsd(MapTransform):
    """Reads a label map, (1, X, Y, Z) int32, which has to lie on the grid of the image that was loaded before.

    Raises:
        ValueError: unreadable, on another grid, values that are no whole numbers from 0 on, or nothing but 0.
    """

    def __init__(self, keys: str | list[str] = "label", image_key: str = "image") -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        image = d[self.image_key]
        for key in self.key_iterator(d):
            meta = {"affine": image.affine, "filename_or_obj": d[key]}
            d[key] = MetaTensor(read_labels(d[key], image)[None], meta=meta)
        return d


def check_cases(
    items: Sequence[Mapping[str, Any]], progress: bool = True, reading: Reading | None = None
) -> list[dict[str, Any]]:
    """Read every image and label map once, and say which classes each one holds.

    Args:
        items: from :func:`..common.data_list.read_data_list`.
        progress: show a progress bar.
        reading: how images are read, see :class:`.volumes.LoadVolumed`.

    Returns:
        the items with ``classes``, ``{value: name}`` of the values that are in the label map; those without a name in
        ``label_names`` are called ``label VALUE``, and where it names one label alone, 1 and 255 are the same.

    Raises:
        ValueError: images or label maps that cannot be used, all of them in one message.
    """
    load_image, load_labels = LoadVolumed("image", reading=reading), LoadLabelsd("label")
    checked, problems = [], []
    for item in tqdm(items, desc="checking", unit="volume", disable=not progress):
        try:
            _check_form(item)
            labels = load_labels(load_image({"image": item["image"], "label": item["label"]}))["label"]
        except ValueError as error:
            problems.append(str(error))
            continue
        values = [int(v) for v in labels.unique() if v]
        names = names_of_values(item.get("label_names") or {}, values)
        classes = {v: names.get(v, f"label {v}") for v in values}
        checked.append({**item, "label_names": names, "classes": classes})
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if problems[SHOWN:] else []
        shown = "\n  ".join([*problems[:SHOWN], *more])
        raise ValueError(
            f"{len(problems)} of {len(items)} labelled volumes cannot be used; mend them or take them off the list:\n"
            f"  {shown}"
        )
    return checked


def _check_form(item: Mapping[str, Any]) -> None:
    names = item.get("label_names") or {}
    if not isinstance(item["label"], str) or not all(isinstance(value, int) for value in names):
        raise ValueError(
            f"{item['image']}: label {item['label']!r} with names {names}; expected one label map, and names of its "
            f'values: {{"1": NAME}}'
        )
