# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Any folder of images and label files whose names match."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.label_table import FORM, read_label_names
from common.mask_pairs import by_stem, mask_of
from common.reading.picture import SUFFIXES as PICTURES
from tools.prepare_data.case import VOLUMES, Case, Choices, Found, Problem, files_in, read_object
from tools.prepare_data.labels import Colours, Values
from tools.prepare_data.sets.nnunet import label_names

FOLDERS = ("masks", "labels")


def find(source: Path, choices: Choices) -> Found:
    """The pairs of a folder."""
    if bool(choices.images) != bool(choices.masks):
        raise ValueError("--images and --masks: expected both or none")
    if choices.images:
        images, masks = (matches(source, p) for p in (choices.images, choices.masks))
    else:
        folder = next((source / f for f in FOLDERS if (source / f).is_dir()), source / FOLDERS[0])
        images, masks = (
            by_stem((p for p in files_in(f, "*") if _readable(p)), what)
            for f, what in ((source / "images", "images"), (folder, "masks"))
        )
        belong = {name: mask_of(name, masks, images) for name in images}
        unused = {name: path for name, path in masks.items() if path not in belong.values()}
        masks = {name: path for name, path in belong.items() if path} | unused
    names = choices.labels or read_object(source / "labels.json")
    return pair(images, masks, names, choices.modality or "unknown")


def pair(images: dict[str, Path], masks: dict[str, Path], names: Mapping[str, Any] | None, modality: str) -> Found:
    """Cases from images and masks by name, with values or colours that mean labels."""
    known = read_label_names(names, "labels") if names else {}
    coloured = any(isinstance(key, str) for key in known)
    if coloured:
        found = Found({i: name for i, name in enumerate(known, 1)})
        colours = {colour: i for i, colour in enumerate(known.values(), 1)}
    else:
        found = Found(_value_names(known))
        values = {v: v for v in found.labels or range(1, 256)}
    for name in sorted(images.keys() & masks.keys()):
        label = Colours(masks[name], colours) if coloured else Values(masks[name], values, named=bool(known))
        found.add(Case(name, name, images[name], label, modality))
    for one, other, what in ((images, masks, "label"), (masks, images, "image")):
        for name in sorted(one.keys() - other.keys()) if found.cases or images else ():
            found.problems.append(Problem("missing pair", f"{one[name]} has no {what}: left out"))
    return found


def matches(source: Path, pattern: str) -> dict[str, Path]:
    """Files by what stands for the ``*`` of a pattern. Raises ValueError for a pattern of another form."""
    if pattern.count("*") != 1 or pattern.startswith("/") or ".." in pattern:
        raise ValueError(f"pattern {pattern!r}: expected a path in the source with one *, which names the case")
    before, after = pattern.split("*")
    paths = files_in(source, pattern)
    return {str(p.relative_to(source).as_posix())[len(before) : -len(after) or None]: p for p in paths}


def _readable(path: Path) -> bool:
    return path.name.lower().endswith((*PICTURES, *VOLUMES))


def _value_names(known: Mapping[int, str]) -> dict[int, str]:
    names, _, _ = label_names({str(value): name for value, name in known.items()})
    if any(not 0 < value < 256 for value in names):
        raise ValueError(f"labels {dict(known)}: expected values up to 255, or colours: {FORM}")
    return names
