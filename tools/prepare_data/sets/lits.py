# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""LiTS: CT with liver and liver tumours."""

from __future__ import annotations

from pathlib import Path

from tools.prepare_data.case import About, Case, Choices, Found, files_in, stem
from tools.prepare_data.labels import Values

ABOUT = About(
    title="131 abdominal CTs, liver and liver tumour",
    licence="not re-checked: see the challenge's page",
    where="https://competitions.codalab.org/competitions/17094 (LiTS, ISBI and MICCAI 2017); copies on Kaggle",
    size="tens of GB (not re-checked)",
    layout="volume-0.nii and segmentation-0.nii, ... in one folder or in several, .nii or .nii.gz",
    notes="For ssam_2d the axial slices with a label become images (--slices all: every slice; --slices no: volumes). "
    "Values stay Hounsfield units. The liver is what is left of it beside the tumours. No official split is used: "
    "S-SAM's published code splits slices at random, here a patient is never split.",
)
SLICES = "labelled"


def find(source: Path, choices: Choices) -> Found:
    """The volumes below a folder; test volumes come without labels and are not used."""
    found = Found({1: "liver", 2: "tumour"}, complete=131, unit="volumes")
    labels = {stem(p): p for p in files_in(source, "**/segmentation-*.nii*")}
    for image in files_in(source, "**/volume-*.nii*"):
        number = stem(image).removeprefix("volume-")
        path = labels.get(f"segmentation-{number}", image.with_name(f"segmentation-{number}.nii"))
        found.add(Case(f"volume-{number}", number, image, Values(path, {1: 1, 2: 2}), "CT"))
    found.note_unused(labels.values(), "volume")
    return found
