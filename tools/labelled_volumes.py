# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The open labelled volumes that a shipped weight may be trained on, and which of them are kept for validation.

Only sets whose licence lets a shipped weight be trained on them are named here. What is kept for validation is said by
the sets of ``tools.prepare_data``: the patient STS_006, the last 20 hippocampi by name, the MR slab of
totalseg_example, the breast MR. Of ``MORE_SETS`` what is kept is for development: the last 15 heads and necks and the
last 8 hearts by name, one patient with sclerosis, and Colin27, a brain like none that trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bundles.fastsam3d.scripts.training.cubes import Volume, joined_targets
from common.geometry import Grid
from common.intensity import intensity_bounds
from common.reading import volume as volumes
from tools.prepare_data.case import Choices
from tools.prepare_data.catalogue import DATA_SETS

# The sets by their folder: name in tools.prepare_data, which knows what is kept for validation.
SETS = {
    "totalseg_example": "totalseg_example",
    "sts_sarcoma": "sts_sarcoma",
    "msd_hippocampus": "hippocampus",
    "sct_spinalcord": "sct_spinalcord",
    "pyradiomics": "pyradiomics",
}
MORE_SETS = {
    "openkbp": "openkbp",
    "sunnybrook_lv": "sunnybrook_lv",
    "mricron_brains": "mricron_brains",
    "open_ms_mni": "open_ms",
}
TOTALSEG = {"example_ct": "totalseg_ct", "example_ct_sm": "totalseg_slab", "example_mr_sm": "totalseg_mr"}


class Pair(NamedTuple):
    """Files of a labelled volume.

    Attributes:
        image, label: the files.
        name: SET/CASE; three volumes of totalseg_example are sets of their own.
        names: of the label map's values.
        validation: whether it is kept for validation.
    """

    image: Path
    label: Path
    name: str
    names: dict[int, str]
    validation: bool


def labelled_pairs(folder: Path, sets: Mapping[str, str] = SETS) -> Iterator[Pair]:
    """The pairs of a data folder that holds the sets by name; sets that are missing are left out."""
    for set_folder, set_name in sets.items():
        if not (folder / set_folder).is_dir():
            continue
        found = DATA_SETS[set_name].find(folder / set_folder, Choices())
        for case in found.cases:
            name = TOTALSEG.get(case.name, f"{set_folder}/{case.name}")
            names = dict(case.label_names or found.labels)
            yield Pair(case.image, case.label.path, name, names, case.section == "validation")


def real_volumes(folder: Path, validation: bool = False) -> Iterator[Volume]:
    """Those that may train a shipped weight, or those kept for validation, in memory one after the other."""
    for pair in labelled_pairs(folder):
        if pair.validation == validation:
            yield read_volume(pair.image, pair.label, pair.name, pair.names)


def read_volume(image: Path, label: Path, name: str, names: dict[int, str]) -> Volume:
    """Read an image and its label map; ``names`` lets labels that share their first word be one object too."""
    voxels, labels = volumes.read_volume(image), volumes.read_volume(label)
    grid = Grid(np.asarray(voxels.affine, dtype=np.float64), tuple(voxels.shape[1:]))
    voxels, labels = voxels.as_tensor().float(), labels.as_tensor().round().to(torch.uint8)
    present = [int(k) for k in labels.unique() if k]
    return Volume(voxels, labels, grid, intensity_bounds(voxels), joined_targets(present, names), name)
