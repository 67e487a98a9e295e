# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Objects of an image, each with clicks and a box as a person might give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform, Randomizable

from ..common.clicks import deepest_point, random_inner_point
from ..common.label_pictures import read_label_picture, value_map

# How a prompt is given, and how often: clicks, a box, both.
FORMS = {"points": 0.6, "box": 0.25, "both": 0.15}
# A clicked piece of background lies this near the object, in shares of the image.
NEAR = 0.15


class LoadObjectsd(MapTransform):
    """A path to an index mask, every value of which is an object -> (1, H, W) float32."""

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """See the class."""
        read = dict(data)
        for key in self.key_iterator(read):
            values = value_map(read_label_picture(read[key]), None)
            read[key] = torch.from_numpy(values.astype(np.float32))[None]
        return read


class SampleObjectsd(MapTransform, Randomizable):
    """Some objects of an index mask with prompts.

    In place of the mask (1, H, W): ``label`` (K, H, W) uint8, empty where the image has fewer than K objects, and
    ``points`` (K, P, 2) x and y, ``point_labels`` (K, P) with -1 for no point, ``boxes`` (K, 4), and ``form``, 0 to 2
    in the order of FORMS.

    Args:
        keys: of the mask.
        count: K.
        points: P, the most clicks at first.
        smallest: pixels that an object must have.
        random: False takes the largest objects, each with a click in its middle or its exact box.
        form: one of FORMS: which of the two, where nothing is random.

    Raises:
        ValueError: another form.
    """

    def __init__(
        self,
        keys: str,
        count: int = 4,
        points: int = 3,
        smallest: int = 24,
        random: bool = True,
        form: str = "points",
    ) -> None:
        super().__init__(keys)
        if form not in FORMS:
            raise ValueError(f"prompt {form!r}: expected {', '.join(FORMS)}")
        self.count, self.points, self.smallest, self.random, self.form = count, points, smallest, random, form

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """See the class."""
        sampled, rng = dict(data), np.random.default_rng(self.R.randint(2**31))
        mask = np.asarray(sampled[self.keys[0]])[0].round().astype(np.int64)
        sizes = np.bincount(mask.ravel())
        sizes[0] = 0
        values = np.argsort(-sizes, kind="stable")[: (sizes >= self.smallest).sum()]
        if self.random:
            values = rng.permutation(values)
        objects = [mask == value for value in values[: self.count]]
        labels = np.zeros((self.count, *mask.shape), np.uint8)
        points = np.zeros((self.count, self.points, 2), np.float32)
        signs = np.full((self.count, self.points), -1, np.int64)
        boxes = np.zeros((self.count, 4), np.float32)
        for i, target in enumerate(objects):
            labels[i] = target
            boxes[i] = self._box(target, rng)
            for j, (row, column, sign) in enumerate(self._clicks(target, rng)):
                points[i, j], signs[i, j] = (column, row), sign
        form = rng.choice(len(FORMS), p=list(FORMS.values())) if self.random else list(FORMS).index(self.form)
        arrays = {"points": points, "point_labels": signs, "boxes": boxes, "form": np.int64(form)}
        return sampled | {self.keys[0]: torch.from_numpy(labels)} | {k: torch.as_tensor(v) for k, v in arrays.items()}

    def _clicks(self, target: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int, int]]:
        """Rows, columns and labels: the first in the object, the others in it or beside it."""
        if not self.random:
            return [(*deepest_point(target), 1)]
        clicks = [(*random_inner_point(target, rng), 1)]
        for _ in range(rng.integers(self.points)):
            if rng.random() < 0.5:
                clicks.append((*_any(target, rng), 1))
            else:
                rows, columns = (slice(max(0, a), b) for a, b in self._around(target))
                beside = np.zeros_like(target)
                beside[rows, columns] = ~target[rows, columns]
                if beside.any():
                    clicks.append((*_any(beside, rng), 0))
        return clicks

    def _around(self, target: np.ndarray) -> list[tuple[int, int]]:
        reach = round(NEAR * max(target.shape))
        used = [np.flatnonzero(target.any(axis=axis)) for axis in (1, 0)]
        return [(int(at[0]) - reach, int(at[-1]) + reach + 1) for at in used]

    def _box(self, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """x and y of the first and of the last pixel, off by up to a tenth of the sides."""
        rows, columns = (np.flatnonzero(target.any(axis=axis)) for axis in (1, 0))
        box = np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)
        if self.random:
            sides = np.tile(box[2:] - box[:2] + 1, 2)
            box = box + rng.uniform(-0.1, 0.1, 4) * sides
        return box.clip(0, np.tile(target.shape[::-1], 2) - 1)


def _any(region: np.ndarray, rng: np.random.Generator) -> tuple[int, ...]:
    pixels = np.flatnonzero(region)
    return tuple(int(i) for i in np.unravel_index(pixels[rng.integers(len(pixels))], region.shape))
