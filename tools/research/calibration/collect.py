# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Clicks on objects that no shipped weight saw, and how often a logit was right."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from bundles.fastsam3d.scripts.evaluation.click_through import click_through
from common.clicks import Click
from tools.research.prompts.objects import Engine, Labelled, development_objects, dice

# Logits are counted in these bins.
EDGES = np.linspace(-12, 12, 481)
CLICKS = 3
# mm around the object and its mask: farther away nobody doubts.
MARGIN = 10.0
KEPT_OPENKBP, KEPT_SUNNYBROOK, OBJECTS = 12, 12, 8


def volumes(data: Path) -> dict[str, dict[str, tuple[str, str]]]:
    """Files of the volumes that are fitted on, and of others that the fit is measured on; each patient is in one."""
    halves: dict[str, dict[str, tuple[str, str]]] = {"fit": {}, "measured": {}}
    found = [
        sorted((data / "openkbp").glob("pt_*_ct.nii.gz"))[:KEPT_OPENKBP],
        sorted((data / "sunnybrook_lv").glob("*_ed_image.nii.gz"))[:KEPT_SUNNYBROOK],
        sorted((data / "mricron_brains").glob("*_t1_image.nii.gz")),
        sorted((data / "open_ms_mni").glob("patient*_flair_image.nii.gz"))[:2],
    ]
    labels = {"_ct.": "_label.", "_ed_image.": "_ed_label.", "_t1_image.": "_label.", "_flair_image.": "_label."}
    labels["colin27_t1_image."] = "colin27_aal_label."
    for images in found:
        for i, image in enumerate(images):
            ending = max((e for e in labels if e in image.name), key=len)
            name = image.name.replace(ending, labels[ending])
            folder = image.parent.name
            case = f"{folder}/{image.name.removesuffix('.nii.gz')}"
            halves[("fit", "measured")[i % 2]][case] = (f"{folder}/{image.name}", f"{folder}/{name}")
    return halves


def rows(data: Path, known: Container[str] = ()) -> Iterator[dict[str, Any]]:
    """One row for each object and number of clicks; those that are ``known`` already are left out.

    ``half``, ``object``, ``clicks``, ``dice``, ``iou``; ``head``, the decoder's own estimate of the IoU; ``inside`` and
    ``outside``, logits near the object by what the voxel is in truth, and ``all``, those of the whole volume, in bins.
    """
    engine = Engine()
    for half, files in volumes(data).items():
        for thing in development_objects(data, OBJECTS, volumes=files):
            for clicks, found in () if thing.name in known else _clicked(engine, thing):
                mask = (found.labels > 0).numpy()
                logits = found.logits(0).numpy()
                near = _near(thing.truth | mask, thing.grid.spacing)
                inside, outside = (_bins(logits[near][thing.truth[near] == t]) for t in (True, False))
                yield {
                    "half": half,
                    "object": thing.name,
                    "clicks": clicks,
                    "dice": dice(mask, thing.truth),
                    "iou": float((mask & thing.truth).sum() / (mask | thing.truth).sum()),
                    "head": found.views[0][0].score,
                    "inside": inside,
                    "outside": outside,
                    "all": _bins(logits),
                }


def _clicked(engine: Engine, thing: Labelled) -> Iterator[tuple[int, Any]]:
    last = []

    def segment(given: list[Click]) -> np.ndarray:
        asked = {"points": [c.voxel for c in given], "point_labels": [c.label for c in given]}
        last[:] = [engine(thing, asked)]
        return (last[0].labels > 0).numpy()

    for count, _ in enumerate(click_through(thing.truth, segment, CLICKS, thing.grid.spacing), start=1):
        if count in (1, CLICKS):
            yield count, last[0]


def _near(voxels: np.ndarray, spacing: np.ndarray) -> tuple[slice, ...]:
    (box,) = ndimage.find_objects(voxels.astype(np.uint8))
    more = [int(np.ceil(MARGIN / s)) for s in spacing]
    return tuple(slice(max(0, b.start - m), b.stop + m) for b, m in zip(box, more, strict=True))


def _bins(logits: np.ndarray) -> list[int]:
    return np.histogram(np.clip(logits, EDGES[0], EDGES[-1]), EDGES)[0].tolist()
