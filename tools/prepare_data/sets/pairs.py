# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Any folder of images and label files whose names match."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.prepare_data.case import PICTURES, VOLUMES, About, Case, Choices, Found, Problem, files_in, stem
from tools.prepare_data.labels import Colours, Values
from tools.prepare_data.sets.nnunet import label_names

ABOUT = About(
    title="any folder of images and label files",
    licence="its own",
    where="your own data",
    size="its own",
    layout="images/NAME.png and masks/NAME.png (or labels/), or NIfTI, NRRD, MetaImage; optional labels.json: "
    '{"1": "liver"} for values, {"polyp": [200, 0, 200]} for colours',
    notes="Other layouts: --images 'STS_*/CT_image.nii.gz' --masks 'STS_*/CT_mask.nii.gz', with one * that names the "
    'case. --labels gives the names where there is no labels.json; white masks: \'{"255": "polyp"}\'. Without names '
    "every value is kept, nameless. The case's name is the patient. --modality names what it is.",
)
FOLDERS = ("masks", "labels")


def find(source: Path, choices: Choices) -> Found:
    """The pairs of a folder."""
    if bool(choices.images) != bool(choices.masks):
        raise ValueError("--images and --masks: expected both or none")
    if choices.images:
        images, masks = (matches(source, p) for p in (choices.images, choices.masks))
    else:
        folder = next((source / f for f in FOLDERS if (source / f).is_dir()), source / FOLDERS[0])
        images, masks = ({stem(p): p for p in files_in(f, "*") if _readable(p)} for f in (source / "images", folder))
    names = choices.labels or _labels_file(source / "labels.json")
    return pair(images, masks, names, choices.modality or "unknown")


def pair(images: dict[str, Path], masks: dict[str, Path], names: Mapping[str, Any] | None, modality: str) -> Found:
    """Cases from images and masks by name, with values or colours that mean labels."""
    coloured = bool(names) and all(isinstance(v, (list, tuple)) for v in names.values())
    if coloured:
        found = Found({i: name for i, name in enumerate(names, 1)})
        colours = {tuple(int(c) for c in colour): i for i, colour in enumerate(names.values(), 1)}
    else:
        found = Found(_value_names(names or {}))
        values = {v: v for v in found.labels or range(1, 256)}
    for name in sorted(images.keys() & masks.keys()):
        label = Colours(masks[name], colours) if coloured else Values(masks[name], values)
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


def _labels_file(path: Path) -> Mapping[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: no valid JSON ({error})") from error
    return content if isinstance(content, dict) else None


def _value_names(given: Mapping[str, Any]) -> dict[int, str]:
    names, _, _ = label_names(dict(given))
    if any(not 0 < value < 256 for value in names):
        raise ValueError(
            f'labels {dict(given)}: expected {{"1": NAME, ...}} up to 255, or {{NAME: [red, green, blue]}}'
        )
    return names
