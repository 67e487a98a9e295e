# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""BraTS: brain tumours in four MR contrasts."""

from __future__ import annotations

import re
from pathlib import Path

from tools.prepare_data.case import Case, Choices, Found, files_in, stem
from tools.prepare_data.labels import Values

# The contrast, its name to 2021, its name from 2023 on.
CONTRASTS = (("flair", "t2f"), ("t1", "t1n"), ("t1ce", "t1c"), ("t2", "t2w"))
NAMES = ("necrotic tumour core", "oedema", "enhancing tumour")
VALUES = {"_": (1, 2, 4), "-": (1, 2, 3)}


def find(source: Path, choices: Choices) -> Found:
    """The patients below a folder, with one contrast."""
    wanted = (choices.contrast or "flair").lower()
    pair = next((names for names in CONTRASTS if wanted in names), None)
    if pair is None:
        raise ValueError(
            f"--contrast {choices.contrast}: expected {', '.join(n for names in CONTRASTS for n in names)}"
        )
    segmentations = files_in(source, "**/BraTS*seg.nii*")
    marks = {stem(p)[-4] for p in segmentations} & {*VALUES}
    if len(marks) > 1:
        raise ValueError(f"{source}: holds releases with different label values; prepare them one by one")
    mark = next(iter(marks), "_")
    found = Found(dict(zip(VALUES[mark], NAMES, strict=True)), unit="patients")
    for path in segmentations:
        case = stem(path)[: -len("_seg")]
        kind = pair[0] if mark == "_" else pair[1]
        image = path.with_name(f"{case}{mark}{kind}{path.name[len(stem(path)) :]}")
        # The last number of 2023's names is the examination.
        patient = re.sub(r"-\d{3}$", "", case) if mark == "-" else case
        found.add(Case(case, patient, image, Values(path, {v: v for v in found.labels}), f"MR {pair[0]}"))
    kind = pair[0] if mark == "_" else pair[1]
    found.note_unused(files_in(source, f"**/BraTS*{mark}{kind}.nii*") if segmentations else (), "segmentation")
    return found
