# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""CholecSeg8k: frames of gallbladder operations, coloured by organ and instrument."""

from __future__ import annotations

import re
from pathlib import Path

from tools.prepare_data.case import Case, Choices, Found, files_in
from tools.prepare_data.labels import Colours, Values

# Label, its value in the watershed mask (all three channels), its colour in the colour mask.
CODES = (
    ("grasper", 31, (170, 255, 0)),
    ("L-hook electrocautery", 32, (169, 255, 184)),
    ("liver", 21, (255, 114, 114)),
    ("fat", 12, (186, 183, 75)),
    ("gallbladder", 22, (255, 160, 165)),
    ("abdominal wall", 11, (210, 140, 140)),
    ("gastrointestinal tract", 13, (231, 70, 156)),
    ("cystic duct", 25, (255, 255, 0)),
    ("blood", 24, (255, 0, 0)),
    ("hepatic vein", 33, (0, 50, 128)),
    ("liver ligament", 5, (111, 74, 0)),
    ("connective tissue", 23, (255, 85, 0)),
)
# Black background; the frame of one pixel around every mask; pixels that nobody segmented.
NO_LABEL_VALUES = (50, 255, 0)
NO_LABEL_COLOURS = ((127, 127, 127), (255, 255, 255), (0, 0, 0))
VALIDATION = ("video27", "video28")
TEST = ("video35", "video37", "video43", "video48", "video52", "video55")


def find(source: Path, choices: Choices) -> Found:
    """The frames below a folder."""
    found = Found({i: name for i, (name, _, _) in enumerate(CODES, 1)}, complete=8080, unit="frames")
    values = {value: i for i, (_, value, _) in enumerate(CODES, 1)}
    colours = {colour: i for i, (_, _, colour) in enumerate(CODES, 1)}
    for image in files_in(source, "**/*_endo.png"):
        video = re.match(r"video\d+", image.parent.name)
        if not video:
            continue
        watershed, coloured = (image.with_name(f"{image.stem}_{kind}_mask.png") for kind in ("watershed", "color"))
        if watershed.is_file() or not coloured.is_file():
            label = Values(watershed, values, NO_LABEL_VALUES)
        else:
            label = Colours(coloured, colours, NO_LABEL_COLOURS)
        patient = video.group()
        section = "validation" if patient in VALIDATION else "test" if patient in TEST else "training"
        name = f"{image.parent.name}_{image.stem.removesuffix('_endo')}"
        found.add(Case(name, patient, image, label, "endoscopy", section))
    found.note_unused(files_in(source, "**/*_endo_watershed_mask.png"), "frame")
    return found
