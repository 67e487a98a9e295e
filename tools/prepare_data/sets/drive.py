# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""DRIVE: vessels of the retina."""

from __future__ import annotations

from pathlib import Path

from tools.prepare_data.case import Case, Choices, Found, files_in
from tools.prepare_data.labels import Instances


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
