# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""ARCADE: coronary arteries in X-ray angiograms."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from common.json_files import read_json
from tools.prepare_data.case import Case, Choices, Found, Problem, files_in
from tools.prepare_data.masks import Polygons

PARTS = {"train": "training", "val": "validation", "test": "test"}


def find(source: Path, choices: Choices) -> Found:
    """The images that the annotation files name."""
    found = Found({1: "vessel"}, complete=1500, unit="images")
    for part, section in PARTS.items():
        for path in files_in(source, f"**/{part}/annotations/{part}.json"):
            if "stenosis" in path.parts:
                continue
            _read(path, section, part, found)
    return found


def _read(path: Path, section: str, part: str, found: Found) -> None:
    try:
        content = read_json(path, "annotations; half a download?")
        files = {image["id"]: image["file_name"] for image in content["images"]}
        outlines = defaultdict(list)
        for annotation in content["annotations"]:
            for ring in annotation["segmentation"]:
                outlines[annotation["image_id"]].append((1, tuple(zip(ring[::2], ring[1::2], strict=True))))
    except (ValueError, TypeError, KeyError) as error:
        found.problems.append(Problem("cannot be read", f"{path}: {error!r}: half a download? Its images are left out"))
        return
    for number, file in files.items():
        image = path.parent.with_name("images") / file
        name = f"{part}_{Path(file).stem}"
        label = Polygons(path, tuple(outlines[number]), overlapping=False)
        found.add(Case(name, name, image, label, "X-ray angiography", section))
