# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The slices of a DICOM stack as one regular grid, or the reason why they are none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .dicom_pixels import NoDecoderError, decode, grey
from .dicom_stacks import LEFT, Stack, choose, stacks_of
from .dicom_tags import Slice, find_slices
from .options import Reading

# Slices may lie so far, in parts of their distance, from where even distances would put them: positions are rounded.
EVEN = 0.1
# Beyond it a note says so.
NOTED = 0.01
# Directions of rows and columns may be so far from unit length and from a right angle.
ORTHOGONAL = 1e-2
SHOWN = 8
# Without one of these nobody knows where a slice lies, and how large its pixels are.
WANTED = {"PixelSpacing": "spacing", "ImagePositionPatient": "position", "ImageOrientationPatient": "orientation"}
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
REMEDY = "copy the series again, or give --irregular resample to have them interpolated"


class Volume(NamedTuple):
    """What a series holds.

    Attributes:
        values: (X, Y, Z), X innermost.
        affine: (4, 4) float64, voxel -> mm in RAS; a tilt of the gantry is a shear of it.
        notes: remarks for the user.
        unit: of the values; empty where the files do not say.
    """

    values: np.ndarray
    affine: np.ndarray
    notes: list[str]
    unit: str


class _Line(NamedTuple):
    """Where the slices lie: ``start`` + ``along`` * ``step``.

    Attributes:
        start: (3,) mm in LPS.
        step: (3,) mm from a slice to the next.
        along: (slices,) 0, 1, 2, ... where they are regular.
        problems: what is irregular, for people.
    """

    start: np.ndarray
    step: np.ndarray
    along: np.ndarray
    problems: list[str]
    notes: list[str]


class Arranged(NamedTuple):
    """The slices of a volume in its order, and where its voxels lie.

    Attributes:
        slices: along the third axis, from its first voxel on.
        affine: (4, 4) float64, voxel -> mm in LPS: (column, row, slice), slices at even distances.
        along: (slices,) where they lie on the third axis: 0, 1, 2, ... where they are regular.
        problems: what is irregular, for people.
        notes: remarks for the user.
    """

    slices: list[Slice]
    affine: np.ndarray
    along: np.ndarray
    problems: list[str]
    notes: list[str]


def read_dicom(place: Path, reading: Reading) -> Volume:
    """The volume of a folder, with the folders in it, or of one file.

    Raises:
        ValueError: as of :func:`arrange`, and pixels that cannot be read.
    """
    found = arrange(place, reading)
    rows, columns = found.slices[0].size
    count = round(float(found.along[-1])) + 1
    reading.check_size(place, (columns, rows, count))
    values, done = _pixels(found.slices, place)
    notes = list(found.notes)
    if found.problems:
        values = _even(values, found.along, count)
        notes.append(f"{'; '.join(found.problems)}: interpolated onto {count} slices at even distances")
    return Volume(values.transpose(2, 1, 0), LPS_TO_RAS @ found.affine, [*notes, *done], found.slices[0].unit)


def arrange(place: Path, reading: Reading) -> Arranged:
    """What the tags say of the volume of a folder, with the folders in it, or of one file.

    Raises:
        ValueError: no images, broken files, several stacks, tags that are missing, or slices that make no regular grid.
    """
    found = find_slices(place)
    if found.broken and reading.irregular == "refuse":
        listed = "; ".join(f"{name}: {why}" for name, why in list(found.broken.items())[:SHOWN])
        more = f"; and {len(found.broken) - SHOWN} more" if len(found.broken) > SHOWN else ""
        raise ValueError(
            f"{place}: {len(found.broken)} files cannot be read as DICOM ({listed}{more}); expected whole files: copy "
            f"them again or move them elsewhere, or give --irregular resample to do without them"
        )
    if not found.slices:
        raise ValueError(f"{place}: no DICOM image among its files; expected the folder of one DICOM series")
    stacks = stacks_of(found.slices)
    stack = choose(stacks, reading.series, place)
    if reading.series is None and reading.irregular == "refuse":
        _check_left([s for other in stacks if other is not stack for s in other.slices], stack, place)
    notes = list(stack.notes)
    if found.broken:
        notes.append(f"{len(found.broken)} files cannot be read and were left out: {_some(list(found.broken))}")
    if found.others:
        notes.append(f"{len(found.others)} files are no DICOM images and were left out: {_some(found.others)}")
    return _arrange(stack, place, reading, notes)


def _arrange(stack: Stack, place: Path, reading: Reading, notes: list[str]) -> Arranged:
    first = stack.slices[0]
    if stack.aside == "colour picture":
        raise ValueError(f"{place}: colour pictures; expected one number a voxel")
    if "MOSAIC" in first.kinds.get("ImageType", ""):
        raise ValueError(f"{place}: mosaics of slices; expected a file or a frame for each slice: convert them first")
    _check_tags(stack, place)
    normal = np.cross(*first.orientation)
    slices = sorted(stack.slices, key=lambda s: float(s.position @ normal))
    line = _line(slices, normal, place, reading)
    if line.problems and reading.irregular == "refuse":
        # A slice that is no part of the stack may be the one that is missing.
        found = "; ".join([*line.problems, *(note for note in stack.notes if note.startswith(LEFT))])
        raise ValueError(f"{place}: {found}; expected slices at even distances: {REMEDY}")
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[0] * first.spacing[1]
    affine[:3, 1] = first.orientation[1] * first.spacing[0]
    affine[:3, 2] = line.step
    affine[:3, 3] = line.start
    return Arranged(slices, affine, line.along, line.problems, [*notes, *line.notes])


def _check_left(left: Sequence[Slice], stack: Stack, place: Path) -> None:
    """Raises ValueError where images that were left aside may be slices that do not say where they lie."""
    first = stack.slices[0]
    lost = [s for s in left if s.series == first.series and s.size == first.size and not s.aside and _unplaced(s)]
    if lost and not _unplaced(first):
        missing = dict.fromkeys(tag for s in lost for tag in _unplaced(s))
        raise ValueError(
            f"{place}: {len(lost)} images have no usable {' and no '.join(missing)}: {_some([s.name for s in lost])}; "
            f"expected slices that say where they lie: export these again, move away what is no slice of the volume, "
            f"or give --irregular resample to do without them"
        )


def _unplaced(s: Slice) -> list[str]:
    """The tags that a slice lacks to have a place."""
    return [tag for tag, name in WANTED.items() if getattr(s, name) is None]


def _check_tags(stack: Stack, place: Path) -> None:
    """Raises ValueError where the slices do not say how large their pixels are and where they lie."""
    slices = stack.slices
    missing = dict.fromkeys(tag for s in slices for tag in _unplaced(s))
    if missing:
        raise ValueError(
            f"{place}: its {len(slices)} images ({slices[0].name}, ...) have no usable {' and no '.join(missing)}; "
            f"expected slices that say how large their voxels are and where they lie: export the series again with "
            f"all its tags, or convert it with a program that knows its geometry"
        )
    rows, columns = slices[0].orientation
    if abs(rows @ columns) > ORTHOGONAL or max(abs(np.linalg.norm(d) - 1) for d in (rows, columns)) > ORTHOGONAL:
        said = [round(float(v), 4) for v in (*rows, *columns)]
        raise ValueError(f"{place}: ImageOrientationPatient {said}; expected two directions at a right angle")


def _line(slices: Sequence[Slice], normal: np.ndarray, place: Path, reading: Reading) -> _Line:
    """The straight line of the slices, sorted along it.

    Raises:
        ValueError: a single slice of unknown thickness, several images at one position, or positions off any line.
    """
    positions = np.array([s.position for s in slices])
    start = positions[0]
    if len(slices) == 1:
        return _Line(start, normal * _thickness(slices[0], place, reading), np.zeros(1), [], [])
    gaps = np.diff(positions @ normal)
    same = [b.name for b, gap in zip(slices[1:], gaps, strict=True) if gap < EVEN * np.median(gaps) or gap <= 0]
    if same:
        raise ValueError(
            f"{place}: {len(same)} images lie where another one does: {_some(same)}; expected one image at each "
            f"position: remove those that do not belong to the volume"
        )
    # Every gap in whole distances: a slice that is missing makes one of two.
    distance = float(np.median(gaps))
    whole = np.maximum(1, np.round(gaps / distance))
    along = np.concatenate([[0.0], np.cumsum(whole)])
    step = _step(positions, along)
    off = (positions - start - along[:, None] * step) / np.linalg.norm(step)
    off -= off.mean(axis=0)
    worst = float(np.abs(off @ normal).max())
    problems, notes = [], []
    if worst > EVEN or bool((np.abs(gaps / distance - whole) > 2 * EVEN).any()):
        found = ", ".join(f"{g:.4g}" for g in sorted(set(np.round(gaps, 3)))[:SHOWN])
        problems.append(f"its {len(slices)} slices lie at uneven distances of {found} mm")
        along = (positions - start) @ normal / distance
        step = (positions[-1] - start) / along[-1]
        # The last slice is on the grid too.
        even = max(1, round(float(along[-1])))
        along, step = along * even / along[-1], step * along[-1] / even
    elif (whole > 1).any():
        holes = [
            f"{int(w) - 1} between {a.name} and {b.name}"
            for a, b, w in zip(slices[:-1], slices[1:], whole, strict=True)
            if w > 1
        ]
        missing = int((whole - 1).sum())
        problems.append(f"{missing} of {int(along[-1]) + 1} slices at {distance:.4g} mm are missing: {_some(holes)}")
    elif worst > NOTED:
        notes.append(f"its slices lie up to {worst * np.linalg.norm(step):.2g} mm off even distances")
    sideways = positions - start - along[:, None] * step
    sideways -= np.outer(sideways @ normal, normal)
    if np.linalg.norm(sideways, axis=1).max() > max(EVEN * min(slices[0].spacing), 0.02):
        raise ValueError(
            f"{place}: its slices are shifted against each other by up to {np.linalg.norm(sideways, axis=1).max():.3g} "
            f"mm; expected positions on a straight line: resample the series with a program that knows its geometry"
        )
    return _Line(start, step, along, problems, notes)


def _step(positions: np.ndarray, along: np.ndarray) -> np.ndarray:
    """(3,) mm from slice to slice, from the first and the last one: what is rounded counts least then."""
    return (positions[-1] - positions[0]) / along[-1]


def _thickness(only: Slice, place: Path, reading: Reading) -> float:
    thickness = reading.slice_thickness or only.thickness
    if not thickness:
        raise ValueError(
            f"{place}: a single slice that does not say how thick it is (no SliceThickness); expected "
            f"--slice_thickness with a number of mm, or a series of several slices"
        )
    return float(thickness)


def _pixels(slices: Sequence[Slice], place: Path) -> tuple[np.ndarray, list[str]]:
    """(slices, rows, columns) float32.

    Raises:
        ValueError: files whose pixels cannot be read, all of them in one message.
    """
    rows, columns = slices[0].size
    values = np.empty((len(slices), rows, columns), np.float32)
    notes: list[str] = []
    broken: list[str] = []
    file, frames = None, None
    for index, s in enumerate(slices):
        try:
            # Frames of one file follow each other or not: a file of many is decoded once.
            if file != s.file:
                frames, note = grey(decode(s.file))
                file = s.file
                notes += [note] if note and note not in notes else []
            values[index] = frames[s.frame]
        except NoDecoderError as error:
            raise ValueError(f"{place}: {s.name}: {error}") from error
        except Exception as error:  # noqa: BLE001 - the decoders raise of every kind
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:100]
            broken.append(f"{s.name} ({reason})")
    if broken:
        raise ValueError(f"{place}: the pixels of {len(broken)} files cannot be read: {_some(broken)}; copy them again")
    return values, notes


def _even(values: np.ndarray, along: np.ndarray, count: int) -> np.ndarray:
    """(count, rows, columns): slices at 0, 1, 2, ... between those at ``along``."""
    even = np.empty((count, *values.shape[1:]), np.float32)
    for k in range(count):
        above = int(np.clip(np.searchsorted(along, k), 1, len(along) - 1))
        weight = np.float32(np.clip((k - along[above - 1]) / (along[above] - along[above - 1]), 0, 1))
        even[k] = values[above - 1] * (1 - weight) + values[above] * weight
    return even


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
