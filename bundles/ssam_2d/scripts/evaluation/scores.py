# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Scores of every label in every image, and the report of all of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import Tensor

from ..common.files import check_writable
from ..common.flags import flag
from ..common.metrics import METRICS, false_positive, mask_scores
from ..common.overlay import Picture, save_overlay
from ..common.score_report import write_report
from .whole_image import masks_of

logger = logging.getLogger(__name__)
AREAS = ("area", "predicted_area")


def label_scores(
    name: str, image: str, masks: Mapping[str, tuple[Tensor, Tensor]], tolerance: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of one image: of the labels that it shows, and of those that it does not.

    Args:
        name: of the image.
        image: its file.
        masks: prediction and truth (H, W), bool, of each label.
        tolerance: pixels, see :func:`..common.metrics.mask_scores`.
    """
    cases, absent = [], []
    for label, (prediction, truth) in masks.items():
        row = {"image": name, "class": label, "file": image}
        if bool(truth.any()):
            areas = dict(zip(AREAS, (int(truth.sum()), int(prediction.sum())), strict=True))
            cases.append(row | mask_scores(prediction, truth, (1.0, 1.0), tolerance) | areas)
        else:
            found = false_positive(prediction, (1.0, 1.0))
            absent.append(row | {"predicted_area": found["predicted_voxels"]})
    return cases, absent


class ScoreReport:
    """Handler for the evaluator: scores each image as it comes, and writes the report when all are done.

    ``metrics.json`` and ``metrics.csv`` (see :func:`..common.score_report.write_report`; all lengths in pixels of the
    image's own), and ``best_N.png`` and ``worst_N.png``, the images of the highest and the lowest mean Dice. Of
    several processes each scores its own images and the first one writes.

    Args:
        labels: of the network, in the order of its channels.
        output_dir: made where it does not exist.
        threshold: probability above which a pixel belongs to a label.
        overlaps: a pixel may belong to several labels.
        tolerance: pixels by which an outline may be off in ``nsd``.
        previews: how many of the best and of the worst images are shown.
    """

    def __init__(
        self,
        labels: Sequence[str],
        output_dir: str | Path,
        threshold: float = 0.5,
        overlaps: bool = False,
        tolerance: float = 2.0,
        previews: int = 3,
    ) -> None:
        self.labels, self.folder = list(labels), Path(output_dir).expanduser()
        self.threshold, self.tolerance, self.previews = threshold, tolerance, previews
        self.overlaps = flag("overlaps", overlaps)
        check_writable(self.folder)
        self._cases: list[dict[str, Any]] = []
        self._absent: list[dict[str, Any]] = []
        self._pictures: list[tuple[float, str, Picture]] = []

    def attach(self, engine: Engine) -> None:
        """Register for each image and for the end."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _score(self, engine: Engine) -> None:
        for item in engine.state.output:
            truth = torch.as_tensor(item["label"]).cpu() > 0
            found = masks_of(torch.as_tensor(item["pred"]).cpu(), self.threshold, self.overlaps)
            file = str(item["image"].meta["filename_or_obj"])
            masks = dict(zip(self.labels, zip(found, truth, strict=True), strict=True))
            cases, absent = label_scores(Path(file).name, file, masks, self.tolerance)
            self._cases += cases
            self._absent += absent
            if cases:
                self._keep(float(np.mean([case["dice"] for case in cases])), file, item["image"], found, truth)

    def _keep(self, dice: float, file: str, image: Tensor, found: Tensor, truth: Tensor) -> None:
        """Pictures of what is among the best or the worst so far: no other one will be in the end."""
        ranked = sorted([*(entry[:2] for entry in self._pictures), (dice, file)])
        chosen = set(ranked[: self.previews]) | set(ranked[len(ranked) - self.previews :])
        self._pictures = [entry for entry in self._pictures if entry[:2] in chosen]
        if (dice, file) in chosen and self.previews:
            shown = torch.as_tensor(image).permute(1, 2, 0).cpu().numpy()
            title = f"{Path(file).name}: Dice {dice:.3f}"
            picture = Picture(shown, as_index_map(found), title, truth=as_index_map(truth))
            self._pictures.append((dice, file, picture))

    def _write(self, engine: Engine) -> None:
        parts = [self._cases, self._absent, self._pictures]
        if idist.get_world_size() > 1:
            parts = [[row for rows in gathered(part) for row in rows] for part in parts]
        if idist.get_rank() != 0:
            return
        cases, absent = (sorted(rows, key=lambda row: (row["file"], row["class"])) for rows in parts[:2])
        report = write_report(self.folder, cases, [*METRICS, *AREAS], absent)
        names = dict(enumerate(self.labels, start=1))
        ranked = sorted(parts[2], key=lambda entry: entry[:2])
        for old in [*self.folder.glob("best_*.png"), *self.folder.glob("worst_*.png")]:
            old.unlink()
        for kind, entries in (("worst", ranked), ("best", ranked[::-1])):
            for number, (_, _, picture) in enumerate(entries[: self.previews], start=1):
                save_overlay(self.folder / f"{kind}_{number}.png", [picture], names)
        logger.info("%s: %s", self.folder / "metrics.json", summary(report))


def gathered(part: list[Any]) -> list[list[Any]]:
    """The lists of all processes."""
    parts: list[Any] = [None] * idist.get_world_size()
    torch.distributed.all_gather_object(parts, part)
    return parts


def as_index_map(masks: Tensor) -> np.ndarray:
    """(L, H, W) bool -> (H, W); where masks overlap, the smallest one lies on top."""
    labels = torch.zeros(masks.shape[1:], dtype=torch.int32)
    for index in torch.argsort(masks.flatten(1).sum(1), descending=True, stable=True).tolist():
        labels[masks[index]] = index + 1
    return labels.numpy()


def summary(report: Mapping[str, Any]) -> str:
    """The means in a line."""
    means = ", ".join(f"{metric} {report['mean'][metric]:.3f}" for metric in METRICS if report["mean"])
    return means or "no label is present in any image"
