# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Series of a tree of DICOM files, found by their tags, whatever their folders and names are."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom import dcmread
from sam_bundles.common.reading.dicom_stacks import Stack, stacks_of
from sam_bundles.common.reading.dicom_tags import Slice, find_slices
from tqdm import tqdm

from .rows import Row

# What is known of a series goes into the table of results.
ABOUT = ("study", "series_uid", "modality", "description")
SHOWN = 8


def rows_of(tree: Path, volumes: bool, progress: bool = False) -> tuple[list[Row], set[str]]:
    """A row for each stack of slices, or for each picture, named by the UIDs of study and series.

    Args:
        tree: folder.
        volumes: whether the bundle reads series as volumes; else it gets their files one by one.
        progress: show a bar.

    Returns:
        the rows, with ``ABOUT``; those with a problem are files that cannot be read, or no images of the body. And the
        names of the latter: nobody has to mend them.

    Raises:
        ValueError: no DICOM image in it.
    """
    slices: list[Slice] = []
    broken: dict[Path, str] = {}
    for file in tqdm(_files(tree), desc="reading tags", unit="file", disable=not progress, leave=False):
        found = find_slices(file)
        slices += found.slices
        broken.update(dict.fromkeys([file] * bool(found.broken), "; ".join(found.broken.values())))
    if not slices and not broken:
        raise ValueError(f"{tree}: no DICOM image in this tree; expected studies and series, or no --dicom_tree")
    rows, aside = [], set()
    by_series = defaultdict(list)
    for one in slices:
        by_series[one.series].append(one)
    places = {series: Path(os.path.commonpath([s.file.parent for s in own])) for series, own in by_series.items()}
    for place in sorted(set(places.values())):
        here = [s for s in slices if place in s.file.parents]
        mine = {series for series, where in places.items() if where == place}
        for row, is_aside in _stacks(place, here, mine) if volumes else _pictures(place, here, mine):
            rows.append(row)
            aside |= {row.cells["name"]} if is_aside else set()
    left = defaultdict(list)
    for file, why in broken.items():
        # Where there is a series, whoever reads it says what is wrong with its folder.
        if not volumes or not any(place in file.parents for place in places.values()):
            left[file.parent].append(f"{file.name}: {why}")
    for folder, told in sorted(left.items()):
        named = "; ".join(told[:SHOWN]) + (f"; and {len(told) - SHOWN} more" if told[SHOWN:] else "")
        where = folder.relative_to(tree).as_posix()
        cells = {"image": str(folder), "name": f"broken/{where}" if where != "." else "broken"}
        problem = f"{len(told)} files cannot be read as DICOM ({named}); expected whole files: copy them again"
        rows.append(Row(where, cells, problem))
    return rows, aside


def _stacks(place: Path, slices: Sequence[Slice], mine: set[str]) -> Iterator[tuple[Row, bool]]:
    """Of the series ``mine``, all of whose files lie in a folder that ``slices`` are all of."""
    try:
        stacks = stacks_of(slices)
    except ValueError as error:
        for series in sorted(mine):
            one = next(s for s in slices if s.series == series)
            yield Row(str(place), _cells(place, one), str(error)), False
        return
    for number, stack in enumerate(stacks, start=1):
        if stack.series not in mine:
            continue
        alike = sum(other.series == stack.series for other in stacks)
        cells = _cells(place, stack.slices[0])
        if alike > 1:
            cells["name"] += f"/stack{number}"
        if len(stacks) > 1:
            # A number means what it does in the list that a reader of the folder shows.
            cells["series"] = str(number) if alike > 1 else stack.series
        yield Row(str(place), cells, _why(stack)), bool(stack.aside)


def _why(stack: Stack) -> str:
    return f"no volume of the body: {stack.describe()}" if stack.aside else ""


def _pictures(place: Path, slices: Sequence[Slice], mine: set[str]) -> Iterator[tuple[Row, bool]]:
    for one in slices:
        if one.series in mine and one.frame == 0:
            is_map = one.aside == "label map"
            cells = _cells(place, one)
            cells |= {"image": str(one.file), "name": f"{cells['name']}/{one.file.stem}"}
            yield Row(str(one.file), cells, "a label map, no picture" if is_map else ""), is_map


def _cells(place: Path, one: Slice) -> dict[str, str]:
    names = ("StudyInstanceUID", "Modality", "SeriesDescription")
    tags = dcmread(one.file, specific_tags=list(names), stop_before_pixels=True, force=True)
    study, modality, description = (str(tags.get(name) or "") for name in names)
    about = dict(zip(ABOUT, (study or "unknown", one.series, modality, description), strict=True))
    return {"image": str(place), "name": f"{about['study']}/{one.series}", **about}


def _files(tree: Path) -> list[Path]:
    files = sorted(f for f in tree.rglob("*") if f.is_file() and f.name.upper() != "DICOMDIR")
    return [f for f in files if not any(part.startswith(".") for part in f.relative_to(tree).parts)]
