# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""TotalSegmentator: CT (or MR) with one file for each organ."""

from __future__ import annotations

import csv
from pathlib import Path

from tools.prepare_data.case import Case, Choices, Found, Problem, files_in, stem
from tools.prepare_data.masks import Masks

STRUCTURES = 117
PARTS = {"train": "training", "val": "validation", "test": "test"}


def find(source: Path, choices: Choices) -> Found:
    """The volumes below a folder."""
    images = sorted([*files_in(source, "**/s*/ct.nii.gz"), *files_in(source, "**/s*/mri.nii.gz")])
    masks = {i: {stem(p): p for p in files_in(i.parent / "segmentations", "*.nii.gz")} for i in images}
    names = sorted({name for paths in masks.values() for name in paths})
    found = Found({i: name for i, name in enumerate(names, 1)}, complete=1228, unit="volumes")
    if names and len(names) < STRUCTURES and any(i.name == "ct.nii.gz" for i in images):
        text = f"{len(names)} of {STRUCTURES} structures have files: half a download, or version 1?"
        found.problems.append(Problem("incomplete", text))
    sections = _sections(files_in(source, "**/meta.csv"))
    for image, paths in masks.items():
        name = image.parent.name
        if len(paths) < len(names):
            lacking = [n for n in names if n not in paths]
            text = f"{name}: {len(lacking)} of {len(names)} masks missing ({', '.join(lacking[:3])}, ...): left out"
            found.problems.append(Problem("missing pair", text))
            continue
        label = Masks(tuple((i, paths[n]) for i, n in found.labels.items()))
        found.add(Case(name, name, image, label, "CT" if image.name == "ct.nii.gz" else "MR", sections.get(name)))
    return found


def _sections(tables: list[Path]) -> dict[str, str]:
    sections = {}
    for table in tables[:1]:
        with open(table, newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file, delimiter=";"):
                if row.get("split") in PARTS and row.get("image_id"):
                    sections[row["image_id"]] = PARTS[row["split"]]
    return sections
