# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Abdominal ultrasound, simulated from CT and real, coloured by organ."""

from __future__ import annotations

import re
from pathlib import Path

from common.reading.picture import SUFFIXES as PICTURES
from tools.prepare_data.case import Case, Choices, Found, files_in
from tools.prepare_data.labels import Colours

COLOURS = {
    "liver": (100, 0, 100),
    "kidney": (255, 255, 0),
    "pancreas": (0, 0, 255),
    "vessels": (255, 0, 0),
    "adrenals": (0, 255, 255),
    "gallbladder": (0, 255, 0),
    "bones": (255, 255, 255),
    "spleen": (255, 0, 255),
}
# Outside the field of view, and tissue without a name in simulated images.
NO_LABEL = ((0, 0, 0), (10, 10, 10))
LAST_TRAINING_CT = 12


def find(source: Path, choices: Choices) -> Found:
    """The annotated images of one kind."""
    kind = (choices.modality or "AUS").upper()
    if kind not in ("AUS", "RUS"):
        raise ValueError(f"--modality {choices.modality}: expected AUS (simulated) or RUS (real)")
    found = Found({i: name for i, name in enumerate(COLOURS, 1)}, unit="images")
    colours = {colour: i for i, colour in enumerate(COLOURS.values(), 1)}
    inner = source if source.name == kind else next(iter(sorted(source.glob(f"**/{kind}"))), source / kind)
    for part in ("train", "test"):
        annotations = {p.stem: p for p in files_in(inner, f"annotations/{part}/*")}
        for image in files_in(inner, f"images/{part}/*"):
            if not image.name.lower().endswith(PICTURES):
                continue
            path = annotations.get(image.stem, inner / "annotations" / part / image.name)
            patient = image.stem.split("-")[0]
            label = Colours(path, colours, NO_LABEL)
            found.add(Case(f"{part}_{image.stem}", patient, image, label, "ultrasound", _section(part, patient)))
        found.note_unused(annotations.values(), "image")
    return found


def _section(part: str, patient: str) -> str:
    if part == "test":
        return "test"
    number = re.fullmatch(r"ct(\d+)", patient)
    return "validation" if number and int(number.group(1)) > LAST_TRAINING_CT else "training"
