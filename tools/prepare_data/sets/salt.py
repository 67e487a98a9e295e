# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The vessel sets in the form in which SALT's authors hand them out: ROSE, ARCADE, DRIVE, DIAS, Xray-Angio."""

from __future__ import annotations

import csv
from pathlib import Path

from common.mask_pairs import by_stem
from common.reading.picture import SUFFIXES as PICTURES
from tools.prepare_data.case import Case, Choices, Found, Problem, files_in
from tools.prepare_data.labels import Instances

PARTS = {"train": "training", "val": "validation", "valid": "validation", "test": "test"}


def find(source: Path, choices: Choices) -> Found:
    """The images that the table names."""
    found = Found({1: "vessel"}, unit="images")
    masks = by_stem((p for p in files_in(source, "masks/*") if p.name.lower().endswith(PICTURES)), "masks")
    for table in files_in(source, "data_split.csv"):
        with open(table, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            file, part = (row.get("imgs") or "").strip(), (row.get("split") or "").strip().lower()
            if not file or part not in PARTS:
                found.problems.append(Problem("unusable row", f"{table}: {row}: expected imgs and train, val or test"))
                continue
            image = source / "images" / Path(file).name
            mask = masks.get(image.stem, source / "masks" / image.name)
            found.add(Case(image.stem, image.stem, image, Instances(mask, half=True), "vessels", PARTS[part]))
        found.note_unused(masks.values(), "row in data_split.csv")
    return found
