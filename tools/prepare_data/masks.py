# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Labels given as outlines, or as one mask each. They may overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skimage.draw import polygon2mask

from tools.prepare_data import rasters
from tools.prepare_data.case import Problem
from tools.prepare_data.labels import Label
from tools.prepare_data.rasters import Raster


@dataclass(frozen=True)
class Polygons:
    """Outlines in pixels: (index, ((x, y), ...)); labels may overlap.

    Attributes:
        path: the file that they were read from.
        outlines: all of the image.
        overlapping: false where later outlines may take pixels of earlier ones.
    """

    path: Path
    outlines: Sequence[tuple[int, Sequence[tuple[float, float]]]]
    overlapping: bool = True

    @property
    def files(self) -> list[Path]:
        """What is read."""
        return [self.path]

    def read(self, image: Raster) -> Label:
        """Masks by index on the image's grid; an index map without a label where there is no outline."""
        shape = image.values.shape[:2]
        masks: dict[int, np.ndarray] = {}
        for index, points in self.outlines:
            inside = polygon2mask(shape, np.asarray(points, dtype=float)[:, ::-1])
            masks[index] = masks.get(index, np.zeros(shape, dtype=bool)) | inside
        if self.overlapping and masks:
            return Label({index: Raster(mask.astype(np.uint8)) for index, mask in sorted(masks.items())})
        result = np.zeros(shape, dtype=np.uint8)
        for index, mask in sorted(masks.items()):
            result[mask] = index
        return Label(Raster(result))


@dataclass(frozen=True)
class Masks:
    """One file or more for each label, 0 and one other value.

    Attributes:
        paths: (index, file) of each mask.
        overlapping: keep the labels apart; else the higher index takes what two of them claim, and that is noted.
    """

    paths: Sequence[tuple[int, Path]]
    overlapping: bool = False

    @property
    def files(self) -> list[Path]:
        """What is read."""
        return [path for _, path in self.paths]

    def read(self, image: Raster) -> Label:
        """Raises: ValueError for what cannot be read, or masks on another grid than the image's."""
        if self.overlapping:
            masks: dict[int, Raster] = {}
            for index, path in sorted(self.paths):
                mask = self._mask(path, image)
                masks[index] = mask._replace(values=np.maximum(mask.values, masks.get(index, mask).values))
            return Label(masks)
        result, claimed = image._replace(values=np.zeros(image.shape, dtype=np.uint8)), 0
        for index, path in sorted(self.paths):
            inside = self._mask(path, image).values != 0
            claimed += int(np.count_nonzero((result.values != 0) & (result.values != index) & inside))
            result.values[inside] = index
        text = f"{self.paths[0][1].parent}: {claimed} voxels lie in two masks; the later label has them"
        return Label(result, problems=(Problem("overlap", text),) if claimed else ())

    def _mask(self, path: Path, image: Raster) -> Raster:
        mask = rasters.read_binary(path)
        difference = rasters.difference(mask, image)
        if difference:
            raise ValueError(f"{path.name}: {difference}")
        return mask
