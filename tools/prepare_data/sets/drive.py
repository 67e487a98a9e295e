# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""DRIVE: vessels of the retina."""

from __future__ import annotations

from pathlib import Path

from tools.prepare_data.case import About, Case, Choices, Found, files_in
from tools.prepare_data.labels import Instances

ABOUT = About(
    title="40 colour photographs of the retina, vessels",
    licence="not re-checked: see the challenge's page",
    where="https://drive.grand-challenge.org (doi 10.1109/TMI.2004.825627)",
    size="30 MB (not re-checked)",
    layout="training/images/21_training.tif, training/1st_manual/21_manual1.gif\n"
    "test/images/01_test.tif, test/1st_manual/01_manual1.gif (not in every copy)",
    notes="The first annotator's vessels. The field of view (mask/) is not used. Official split: training, test.",
)


def find(source: Path, choices: Choices) -> Found:
    """The photographs below a folder."""
    found = Found({1: "vessel"}, complete=40, unit="images")
    for part, section in (("training", "training"), ("test", "test")):
        for image in files_in(source, f"**/images/*_{part}.tif"):
            number = image.stem.split("_")[0]
            label = Instances(image.parent.with_name("1st_manual") / f"{number}_manual1.gif")
            found.add(Case(f"{number}_{part}", number, image, label, "fundus", section))
    found.note_unused(files_in(source, "**/1st_manual/*_manual1.gif"), "image")
    return found
