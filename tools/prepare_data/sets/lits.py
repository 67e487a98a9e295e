# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""LiTS: CT with liver and liver tumours."""

from __future__ import annotations

from pathlib import Path

from tools.prepare_data.case import Case, Choices, Found, files_in, stem
from tools.prepare_data.labels import Values


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
