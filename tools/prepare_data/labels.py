# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The labels of a case, wherever they come from, as an index map: 0 is background, 1 the first label, ..."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tools.prepare_data import rasters
from tools.prepare_data.case import Problem
from tools.prepare_data.rasters import Raster

# A larger share of pixels with an unknown value or colour is another coding, not a few stray ones.
UNKNOWN_SHARE = 0.01


class Label(NamedTuple):
    """The labels of a case.

    Attributes:
        maps: an index map, or masks by index where labels overlap.
        in_place: the file that holds the index map as it is.
        problems: what was noticed.
    """

    maps: Raster | dict[int, Raster]
    in_place: Path | None = None
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Values:
    """A file of label values.

    Attributes:
        path: the file.
        indices: index of each value that means a label; the file can stay in place where they are the same.
        ignored: values that mean no label.
        named: whether a data set says what its values mean; else each may be a label.
    """

    path: Path
    indices: Mapping[int, int]
    ignored: Sequence[int] = (0,)
    named: bool = True

    @property
    def files(self) -> list[Path]:
        """What is read."""
        return [self.path]

    def read(self, image: Raster) -> Label:
        """Raises: ValueError for what cannot be read, is not whole numbers, or means mostly nothing."""
        meant = {*self.indices, *self.ignored} - {0} if self.named else None
        given = rasters.read_values(self.path, meant)
        counts = _counts(given.values)
        result = np.zeros(given.values.shape, dtype=np.uint8)
        for value, index in self.indices.items():
            if value in counts:
                result[given.values == value] = index
        known = {0, *self.indices, *self.ignored}
        unknown = {value: n for value, n in counts.items() if value not in known}
        problems = _unknown(self.path, "value", unknown, given.values.size)
        same = all(value == index for value, index in self.indices.items()) and tuple(self.ignored) == (0,)
        # A mask of 0 and 255 with one label was read as 0 and 1.
        same = same and not unknown and (len(self.indices) > 1 or rasters.holds(self.path, given))
        in_place = self.path if same and rasters.is_index_map(self.path) else None
        return Label(given._replace(values=result), in_place, problems)


@dataclass(frozen=True)
class Instances:
    """A file whose objects, numbered or plain white, are all of one label.

    Attributes:
        path: the file.
        index: of the label.
        half: count only what is brighter than half of the brightest, for masks with compression's traces.
    """

    path: Path
    index: int = 1
    half: bool = False

    @property
    def files(self) -> list[Path]:
        """What is read."""
        return [self.path]

    def read(self, image: Raster) -> Label:
        """Raises: ValueError for what cannot be read."""
        given = rasters.read_grey(self.path) if self.half else rasters.read_values(self.path)
        inside = given.values > (given.values.max() / 2 if self.half else 0)
        return Label(given._replace(values=inside.astype(np.uint8) * np.uint8(self.index)))


@dataclass(frozen=True)
class Colours:
    """A picture whose colours mean labels.

    Attributes:
        path: the file.
        indices: index of each (red, green, blue).
        ignored: colours that mean no label.
    """

    path: Path
    indices: Mapping[tuple[int, int, int], int]
    ignored: Sequence[tuple[int, int, int]] = ((0, 0, 0),)

    @property
    def files(self) -> list[Path]:
        """What is read."""
        return [self.path]

    def read(self, image: Raster) -> Label:
        """Raises: ValueError for what cannot be read, or for mostly unknown colours."""
        given, lossy = rasters.read_colours(self.path)
        packed = _packed(given.values)
        result = np.zeros(packed.shape, dtype=np.uint8)
        for colour, index in self.indices.items():
            result[packed == _packed(np.array(colour))] = index
        known = {int(_packed(np.array(c))) for c in (*self.indices, *self.ignored)}
        found, counts = np.unique(packed, return_counts=True)
        unknown = {
            tuple(int(v) >> s & 255 for s in (16, 8, 0)): int(n)
            for v, n in zip(found, counts, strict=True)
            if int(v) not in known
        }
        if lossy and unknown:
            raise ValueError(
                f"{self.path.name}: {len(unknown)} unknown colours of a compression that changes pixels (JPEG); "
                "expected a mask saved as PNG from its source"
            )
        return Label(Raster(result), problems=_unknown(self.path, "colour", unknown, packed.size))


def _counts(values: np.ndarray) -> dict[int, int]:
    """How often each value comes."""
    low, high = int(values.min()), int(values.max())
    # Many times faster than sorting, where the values allow it.
    if high - low < 1 << 16:
        counts = np.bincount((values - low).ravel())
        return {low + int(i): int(counts[i]) for i in np.flatnonzero(counts)}
    return {int(v): int(n) for v, n in zip(*np.unique(values, return_counts=True), strict=True)}


def _packed(colours: np.ndarray) -> np.ndarray:
    """(..., 3) red, green, blue -> (...) one number each."""
    return colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)


def _unknown(path: Path, what: str, unknown: Mapping, total: int) -> tuple[Problem, ...]:
    """The note on values that mean nothing; a ValueError where they are many."""
    if not unknown:
        return ()
    count = sum(unknown.values())
    shown = ", ".join(f"{k} ({n} pixels)" for k, n in sorted(unknown.items(), key=lambda item: -item[1])[:5])
    if count > UNKNOWN_SHARE * total:
        raise ValueError(f"{path.name}: unknown {what} {shown} in {count / total:.0%} of the pixels; another coding?")
    return (Problem(f"unknown {what}", f"{path}: {shown}: taken as background"),)
