# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""GlaS: glands in stained slices of the colon."""

from __future__ import annotations

import csv
from pathlib import Path

from tools.prepare_data.case import Case, Choices, Found, Problem, files_in
from tools.prepare_data.labels import Instances


def find(source: Path, choices: Choices) -> Found:
    """The images below a folder."""
    found = Found({1: "gland"}, complete=165, unit="images")
    images = [p for p in files_in(source, "**/*.bmp") if p.stem.startswith(("train_", "testA_", "testB_"))]
    images = [p for p in images if not p.stem.endswith("_anno")]
    patients = _patients(files_in(source, "**/Grade.csv"))
    if images and not patients:
        found.problems.append(Problem("no patients", "no Grade.csv names the patients: every image counts as one"))
    for image in images:
        section = "training" if image.stem.startswith("train_") else "test"
        patient = patients.get(image.stem, image.stem)
        label = Instances(image.with_name(f"{image.stem}_anno.bmp"))
        found.add(Case(image.stem, patient, image, label, "histology", section))
    found.note_unused(files_in(source, "**/*_anno.bmp"), "image")
    return found


def _patients(tables: list[Path]) -> dict[str, str]:
    """Patient of each image; the table's columns carry blanks around their names."""
    patients = {}
    for table in tables[:1]:
        with open(table, newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file, skipinitialspace=True):
                cells = {(k or "").strip(): (v or "").strip() for k, v in row.items() if isinstance(v, str)}
                if cells.get("name") and cells.get("patient ID"):
                    patients[cells["name"]] = f"patient_{cells['patient ID']}"
    return patients
