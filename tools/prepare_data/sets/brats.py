# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""BraTS: brain tumours in four MR contrasts."""

from __future__ import annotations

import re
from pathlib import Path

from tools.prepare_data.case import About, Case, Choices, Found, files_in, stem
from tools.prepare_data.labels import Values

ABOUT = About(
    title="brain tumours before treatment (glioma) in four MR contrasts, releases 2018 to 2021 and 2023",
    licence="the challenge's terms (not re-checked: see its page)",
    where="https://www.synapse.org/brats (registration)",
    size="2021 and 2023: 1,251 patients with labels, over 10 GB (not re-checked)",
    layout="to 2021: BraTS2021_00000/BraTS2021_00000_flair.nii.gz, .._t1, .._t1ce, .._t2, .._seg (.nii or .nii.gz)\n"
    "2023: BraTS-GLI-00000-000/BraTS-GLI-00000-000-t2f.nii.gz, ..-t1n, ..-t1c, ..-t2w, ..-seg",
    notes="--contrast flair (default), t1, t1ce or t2; 2023's names (t2f, t1n, t1c, t2w) mean the same. Labels to "
    "2021: 1 necrotic core, 2 oedema, 4 enhancing; 2023: 3 enhancing. Not for 2024's set after treatment, where 4 is "
    "the resection cavity. No official split.",
)
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
