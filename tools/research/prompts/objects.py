# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Objects of open volumes that the card does not report, and the engine that is asked for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.bundle import ConfigParser
from scipy import ndimage

from bundles.fastsam3d.scripts.inference.segment import Segmentation, Segmenter
from common.geometry import Grid
from common.reading.volume import read_volume
from common.weights import load_weights
from tools.bundle_network import BUNDLE, build_network

# Image and label map of each volume, below the data folder. The engine's constants were chosen on the first group;
# the second one had no say in them.
CHOSEN_ON = {
    "openkbp/pt_100": ("openkbp/pt_100_ct.nii.gz", "openkbp/pt_100_label.nii.gz"),
    "openkbp/pt_101": ("openkbp/pt_101_ct.nii.gz", "openkbp/pt_101_label.nii.gz"),
    "sunnybrook_lv/01": ("sunnybrook_lv/SC-HF-I-01_ed_image.nii.gz", "sunnybrook_lv/SC-HF-I-01_ed_label.nii.gz"),
    "sunnybrook_lv/02": ("sunnybrook_lv/SC-HF-I-02_es_image.nii.gz", "sunnybrook_lv/SC-HF-I-02_es_label.nii.gz"),
    "hippocampus/001": (
        "msd_hippocampus/images/hippocampus_001.nii.gz",
        "msd_hippocampus/labels/hippocampus_001.nii.gz",
    ),
    "totalseg/ct": ("totalseg_example/example_ct.nii.gz", "totalseg_example/example_seg_fast_force_split.nii.gz"),
    "colin27": ("mricron_brains/colin27_t1_image.nii.gz", "mricron_brains/colin27_aal_label.nii.gz"),
    "sts/002 CT": ("sts_sarcoma/STS_002/CT_image.nii.gz", "sts_sarcoma/STS_002/CT_mask.nii.gz"),
    "sts/003 MR": ("sts_sarcoma/STS_003/MR_T1_image.nii.gz", "sts_sarcoma/STS_003/MR_T1_mask.nii.gz"),
    "ms/07": ("open_ms_mni/patient07_flair_image.nii.gz", "open_ms_mni/patient07_label.nii.gz"),
}
APART = {
    "openkbp/pt_103": ("openkbp/pt_103_ct.nii.gz", "openkbp/pt_103_label.nii.gz"),
    "openkbp/pt_104": ("openkbp/pt_104_ct.nii.gz", "openkbp/pt_104_label.nii.gz"),
    "sunnybrook_lv/04": ("sunnybrook_lv/SC-HF-I-04_ed_image.nii.gz", "sunnybrook_lv/SC-HF-I-04_ed_label.nii.gz"),
    "hippocampus/084": (
        "msd_hippocampus/images/hippocampus_084.nii.gz",
        "msd_hippocampus/labels/hippocampus_084.nii.gz",
    ),
    "totalseg/slab": ("totalseg_example/example_ct_sm.nii.gz", "totalseg_example/example_seg.nii.gz"),
    "macaque": ("mricron_brains/macaque_inia19_t1_image.nii.gz", "mricron_brains/macaque_inia19_label.nii.gz"),
    "sts/004 MR": ("sts_sarcoma/STS_004/MR_T1_image.nii.gz", "sts_sarcoma/STS_004/MR_T1_mask.nii.gz"),
    "sts/005 CT": ("sts_sarcoma/STS_005/CT_image.nii.gz", "sts_sarcoma/STS_005/CT_mask.nii.gz"),
    "sct/t2": ("sct_spinalcord/t2/t2.nii.gz", "sct_spinalcord/t2/t2_seg-manual.nii.gz"),
    "ms/19": ("open_ms_mni/patient19_flair_image.nii.gz", "open_ms_mni/patient19_label.nii.gz"),
    "pyradiomics/brain1": ("pyradiomics/brain1_image.nrrd", "pyradiomics/brain1_label.nrrd"),
}
VOLUMES = {**CHOSEN_ON, **APART}
# Maps of a brain's regions: all of them together, closed, are an object too.
BRAINS = ("colin27", "macaque")
# Of each volume, the largest ones and every so many others; smaller ones are no development objects.
OBJECTS, FEWEST_VOXELS = 8, 150


class Labelled(NamedTuple):
    """An object to segment.

    Attributes:
        name: of its volume, and its label.
        image: (X, Y, Z) float32.
        grid: where the voxels lie.
        truth: (X, Y, Z) bool.
    """

    name: str
    image: torch.Tensor
    grid: Grid
    truth: np.ndarray


def development_objects(
    data: Path,
    each: int = OBJECTS,
    names: Sequence[str] | None = None,
    volumes: Mapping[str, tuple[str, str]] = VOLUMES,
) -> Iterator[Labelled]:
    """Up to ``each`` objects of each of the named ``volumes``, all by default, spread over its labels by size."""
    for name in volumes if names is None else names:
        image, label = (data / f for f in volumes[name])
        if not image.is_file():
            continue
        voxels, labels = read_volume(image), read_volume(label).as_tensor()[0].numpy().round().astype(int)
        grid = Grid(np.asarray(voxels.affine, dtype=np.float64), tuple(voxels.shape[1:]))
        counts = np.bincount(labels.ravel())
        counts[0] = 0
        by_size = [int(v) for v in counts.argsort()[::-1] if counts[v] >= FEWEST_VOXELS]
        chosen = by_size if len(by_size) <= each else by_size[:: -(-len(by_size) // each)]
        for value in sorted(chosen):
            yield Labelled(f"{name} {value}", voxels.as_tensor()[0].float(), grid, labels == value)
        if name in BRAINS:
            yield Labelled(f"{name} brain", voxels.as_tensor()[0].float(), grid, _closed(labels > 0))


class Engine:
    """The engine of inference.json with the shipped weights.

    Args:
        settings: other values of its options.
    """

    def __init__(self, **settings: Any) -> None:
        config = ConfigParser.load_config_file(str(BUNDLE / "configs" / "inference.json"))
        # What else the inferer takes is for those who call it through MONAI.
        known = config["inferer"].keys() & signature(Segmenter).parameters
        options = {k: config[config["inferer"][k][1:]] for k in known}
        self.segmenter = Segmenter(**{**options, **settings})
        self.network = build_network().eval()
        load_weights(self.network, BUNDLE / "models" / "model.pt")

    def __call__(self, thing: Labelled, prompts: dict[str, Any], **masks: np.ndarray) -> Segmentation:
        """Masks by the names that the prompts give them."""
        return self.segmenter.segment(thing.image, thing.grid.affine, prompts, self.network, masks, content=thing.name)

    def mask(self, thing: Labelled, prompts: dict[str, Any], **masks: np.ndarray) -> np.ndarray:
        """(X, Y, Z) bool."""
        return (self(thing, prompts, **masks).labels > 0).numpy()


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """Of two masks, one of them not empty."""
    return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))


def _closed(mask: np.ndarray, voxels: int = 5) -> np.ndarray:
    """``mask`` without gaps of up to twice as many voxels, and without holes."""
    near = ndimage.distance_transform_edt(~np.pad(mask, voxels)) <= voxels
    inner = ndimage.distance_transform_edt(near) > voxels
    return ndimage.binary_fill_holes(inner)[(slice(voxels, -voxels),) * 3]
