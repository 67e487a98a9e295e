# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""AMOS22: organs of the abdomen in CT and MR."""

from __future__ import annotations

from pathlib import Path

from tools.prepare_data.case import Case, Choices, Found, files_in, stem
from tools.prepare_data.labels import Values

ORGANS = (
    "spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta",
    "inferior vena cava", "pancreas", "right adrenal gland", "left adrenal gland", "duodenum", "bladder",
    "prostate or uterus",
)  # fmt: skip
LAST_CT = 500


def find(source: Path, choices: Choices) -> Found:
    """The labelled volumes below a folder."""
    wanted = (choices.modality or "").upper()
    if wanted not in ("", "CT", "MR"):
        raise ValueError(f"--modality {choices.modality}: expected CT or MR")
    found = Found({i: name for i, name in enumerate(ORGANS, 1)}, unit="volumes")
    found.complete = {"": 360, "CT": 300, "MR": 60}[wanted]
    values = {i: i for i in found.labels}
    for part, section in (("Tr", "training"), ("Va", "validation")):
        for image in files_in(source, f"**/images{part}/amos_*.nii.gz"):
            number = stem(image).removeprefix("amos_")
            if not number.isdecimal():
                continue
            modality = "CT" if int(number) <= LAST_CT else "MR"
            if wanted in ("", modality):
                label = Values(image.parent.with_name(f"labels{part}") / image.name, values)
                found.add(Case(stem(image), number, image, label, modality, section))
        labels = files_in(source, f"**/labels{part}/amos_*.nii.gz")
        found.note_unused(() if wanted else labels, "image")
    return found
