# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Label maps without images, to paint images from, and what their structures are made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from scipy import ndimage

from tools.prepare_data.sets.samples_3d import KEPT_SCLEROSIS


class Source(NamedTuple):
    """A set of label maps.

    Attributes:
        pattern: of its files, in the data folder; the names of the values lie beside them.
        around: what lies around the labels and has none: ``neck`` and ``head`` are put there, ``nothing`` is not.
        share: how often a map of the set is drawn, relative to the other sets.
    """

    pattern: str
    around: str
    share: float


SOURCES = {
    "synthseg_labels": Source("synthseg_labels/seg_*_label.nii.gz", "nothing", 4),
    "deepmind_hn_labels": Source("deepmind_hn_labels/*_label.nii.gz", "neck", 2),
    "spl_brain_labels": Source("spl_brain_labels/hncma_atlas_label.nii.gz", "head", 2),
    "hra_meshes": Source("hra_meshes/*_label.nii.gz", "nothing", 2),
    "lesion_masks": Source("open_ms_mni/lesion_masks_30/*_label.nii.gz", "head", 1),
}
# What a structure is made of: the first pattern found in its name. The values are its intensity in T1, T2 and FLAIR,
# as shares of the brightest tissue, and its Hounsfield units. They need to be likely, not exact: each is varied.
TISSUES = {
    "lesion": ("lesion", 0.45, 0.85, 0.95, 22),
    "vessel": ("vessel|arter|vein|aorta", 0.4, 0.2, 0.3, 130),
    "fluid": ("ventricle|csf|aqueduct|temporal horn|bladder|lens|eye|orbit", 0.17, 0.95, 0.12, 8),
    "white": (
        "white matter|brain-?stem|pons|medulla|midbrain|callosum|fornix|commissure|tract|dc$|lamina|brachia|cord"
        "|optic nerve|chiasm|pallid",
        0.76,
        0.42,
        0.5,
        29,
    ),
    "deep": (
        "thalam|caudate|putamen|accumbens|nigra|red nucleus|subthalamic|geniculate|pulvinar|nucle",
        0.6,
        0.5,
        0.55,
        37,
    ),
    "bone": ("cortical bone|mandible|pelvic|cochlea", 0.1, 0.08, 0.1, 700),
    "marrow": ("cancellous", 0.7, 0.5, 0.5, 250),
    "muscle": (
        "rectus|muscle|masseter|pterygoid|temporalis|capitis|oblique|scalenus|trapezius|mastoid|tongue|heart"
        "|palat|glossus|constrictor|splenius|digastric|uterus|prostate",
        0.42,
        0.25,
        0.35,
        55,
    ),
    "air": ("lung|bronchi|trachea|larynx|mucosa", 0.03, 0.03, 0.03, -880),
    "fat": ("skin|body|fat|canal", 0.9, 0.7, 0.6, -95),
    "organ": (
        "liver|spleen|kidney|pancreas|gland|parotid|thymus|intestine|gallbladder|ovar|tube|ureter|urethra|vagina|soft",
        0.5,
        0.5,
        0.5,
        60,
    ),
    "grey": ("", 0.48, 0.6, 0.62, 38),
}
BRAIN = ("white", "deep", "grey", "lesion")
SIDES = re.compile(r"\b(left|right)\b ?")


def tissue(name: str) -> str:
    """What a structure of this name is made of."""
    return next(t for t, (pattern, *_) in TISSUES.items() if re.search(pattern, name.lower()))


class LabelMap(NamedTuple):
    """A label map in memory.

    Attributes:
        labels: (X, Y, Z) int16, axes as RAS.
        spacing: (3,) mm.
        names: of its values.
        boxes: where each value lies.
        source: the set.
        name: of the file.
    """

    labels: np.ndarray
    spacing: np.ndarray
    names: dict[int, str]
    boxes: dict[int, tuple[slice, ...]]
    source: str
    name: str


def label_maps(data: Path) -> Iterator[LabelMap]:
    """The maps of the data folder, one after the other; those of patients that are kept for development are left out.

    Raises:
        ValueError: there are none.
    """
    count = 0
    for source, (pattern, *_) in SOURCES.items():
        for path in sorted(data.glob(pattern)):
            if KEPT_SCLEROSIS in path.name:
                continue
            count += 1
            yield read_label_map(path, source)
    if not count:
        raise ValueError(f"{data}: no label maps of {', '.join(SOURCES)} are there; expected the data sets' folder")


def read_label_map(path: Path, source: str) -> LabelMap:
    """A map from its file, with ``labels.json`` beside it."""
    image = nib.as_closest_canonical(nib.load(path))
    labels = np.ascontiguousarray(np.asarray(image.dataobj).round().astype(np.int16))
    names = {int(k): v for k, v in json.loads((path.parent / "labels.json").read_text()).items()}
    boxes = {v: box for v, box in enumerate(ndimage.find_objects(labels), 1) if box is not None and v in names}
    spacing = np.asarray(image.header.get_zooms()[:3], dtype=np.float64)
    return LabelMap(labels, spacing, names, boxes, source, path.name)
