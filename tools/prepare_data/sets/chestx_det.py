# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""ChestX-Det: outlines of findings in chest X-rays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.json_files import read_json
from tools.prepare_data.case import Case, Choices, Found, Problem, files_in
from tools.prepare_data.masks import Polygons

FINDINGS = (
    "Effusion", "Nodule", "Cardiomegaly", "Fibrosis", "Consolidation", "Emphysema", "Mass", "Fracture",
    "Calcification", "Pleural Thickening", "Pneumothorax", "Atelectasis", "Diffuse Nodule",
)  # fmt: skip


def find(source: Path, choices: Choices) -> Found:
    """The images that the annotation files name."""
    found = Found({i: name for i, name in enumerate(FINDINGS, 1)}, complete=3578, unit="images")
    images = {path.name: path for path in files_in(source, "**/*.png")}
    for section, file in (("training", "ChestX_Det_train.json"), ("test", "ChestX_Det_test.json")):
        for path in files_in(source, f"**/{file}")[:1]:
            for entry in _entries(path, found):
                _add(found, entry, path, images, section)
        if not files_in(source, f"**/{file}"):
            found.problems.append(Problem("missing pair", f"{file} is not there: its images are left out"))
    return found


def _entries(path: Path, found: Found) -> list[dict[str, Any]]:
    try:
        entries = read_json(path, "annotations; half a download?")
        return [e for e in entries if len(e["syms"]) == len(e["polygons"]) and e["file_name"]]
    except (ValueError, TypeError, KeyError) as error:
        found.problems.append(Problem("cannot be read", f"{path}: {error!r}: half a download? Its images are left out"))
        return []


def _add(found: Found, entry: dict[str, Any], path: Path, images: dict[str, Path], section: str) -> None:
    name = Path(entry["file_name"]).stem
    outlines = []
    for finding, points in zip(entry["syms"], entry["polygons"], strict=True):
        if finding not in FINDINGS:
            found.problems.append(Problem("unknown label", f"{name}: {finding}: outline not used"))
        elif len(points) < 3:
            found.problems.append(Problem("unusable outline", f"{name}: {finding} of {len(points)} points: not used"))
        else:
            outlines.append((FINDINGS.index(finding) + 1, tuple(tuple(p) for p in points)))
    image = images.get(entry["file_name"], path.with_name(entry["file_name"]))
    found.add(Case(name, name, image, Polygons(path, tuple(outlines)), "X-ray", section))
