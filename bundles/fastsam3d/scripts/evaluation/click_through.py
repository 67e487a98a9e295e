# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A simulated person who clicks into the middle of the object, then into the middle of the largest error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from ..common.clicks import Click, deepest_point, error_click
from ..common.geometry import Grid
from ..common.intensity import intensity_bounds
from ..common.metrics import mask_scores
from ..common.preview import save_preview
from .cases import FinishedCases
from .protocol import METRICS, SECONDS, VOLUMES, Protocol


class Step(NamedTuple):
    """A click, None for a first prompt of another kind, the mask after it, (X, Y, Z) bool, and its seconds."""

    click: Click | None
    mask: np.ndarray
    seconds: float


def click_through(
    truth: np.ndarray,
    segment: Callable[[list[Click]], np.ndarray],
    count: int,
    spacing: Sequence[float],
    prompted: bool = False,
) -> Iterator[Step]:
    """Click ``count`` times, fewer where nothing is wrong any more.

    The first click is the deepest voxel of the truth, each further one the deepest point of the largest error; depth
    is measured in mm, on the image's own grid, and nothing is random.

    Args:
        truth: (X, Y, Z) bool, with at least one true voxel.
        segment: all clicks so far -> mask of the same shape.
        count: of clicks.
        spacing: mm between voxels.
        prompted: another prompt comes first, alone: the first step is without a click, and each click corrects.
    """
    clicks: list[Click] = []
    if prompted:
        start = time.perf_counter()
        mask = segment([])
        yield Step(None, mask, time.perf_counter() - start)
    click = error_click(mask, truth, spacing=spacing) if prompted else Click(deepest_point(truth, spacing), 1)
    while click is not None and len(clicks) < count:
        clicks.append(click)
        start = time.perf_counter()
        mask = segment(clicks)
        yield Step(click, mask, time.perf_counter() - start)
        click = error_click(mask, truth, spacing=spacing) if len(clicks) < count else None


class ClickThrough:
    """The evaluator's step: clicks through one case, by the inferer that users click with, and scores the masks.

    After the last click of a case that needed fewer, the mask stays as it is, and so do its scores. The score after k
    clicks is that of the mask after the k-th click, never the best of them.

    Args:
        preprocessing: ``image`` and ``label`` from paths to (1, X, Y, Z).
        finished: where results are kept; a case that is there is not clicked through again.
        protocol: how objects are asked for, and when masks are scored.
        tolerance: mm, of the surface Dice.
        previews: how many of the best and of the worst cases have their picture drawn.
    """

    def __init__(
        self,
        preprocessing: Callable[[Mapping[str, Any]], dict[str, Any]],
        finished: FinishedCases,
        protocol: Protocol = Protocol(),  # noqa: B008
        tolerance: float = 2.0,
        previews: int = 3,
    ) -> None:
        self.preprocessing = preprocessing
        self.finished = finished
        self.protocol = protocol
        self.tolerance = tolerance
        self.previews = previews
        self._rows: list[dict[str, Any]] = []
        self._volume: tuple[tuple[str, str], dict[str, Any]] | None = None

    def __call__(self, engine: Engine, case: Mapping[str, Any]) -> dict[str, Any]:
        """A case of :func:`.cases.list_cases` -> its row of the report; ``engine`` has ``network`` and ``inferer``."""
        row = self.finished.load(case)
        if row is None:
            volume = self._read(case)
            truth = (volume["label"][0] == case["value"]).numpy()
            row, mask = self._score(engine, volume["image"], truth, case["class"])
            row = {"image": case["image"], "class": case["class"], "label": case["value"], **row}
            drawn = any(row is extreme for extreme in best_and_worst([*self._rows, row], self._last, self.previews))
            title = f"{case['class']}, Dice {row[self._last]:.3f} after {len(row['clicks'])} clicks; dashed: truth"
            draw = lambda path: _draw(path, volume["image"], mask, truth, row["clicks"], title)  # noqa: E731
            self.finished.save(case, row, draw if drawn else None)
        self._rows.append(row)
        return row

    @property
    def _last(self) -> str:
        return f"dice@{self.protocol.clicks[-1]}"

    def _read(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """The volume of a case, read once for all of its classes that follow each other."""
        paths = (case["image"], case["label"])
        if self._volume is None or self._volume[0] != paths:
            self._volume = None
            self._volume = paths, self.preprocessing({"image": paths[0], "label": paths[1]})
        return self._volume[1]

    def _score(
        self, engine: Engine, image: MetaTensor, truth: np.ndarray, name: str
    ) -> tuple[dict[str, Any], np.ndarray]:
        affine = np.asarray(image.affine, dtype=np.float64)
        spacing, content = Grid(affine, truth.shape).spacing, image.meta.get("content")
        volume = image.as_tensor()[0].to(engine.state.device)
        first, drawn = self.protocol.first_prompt(name, truth, spacing)
        masks = {"masks": {key: torch.from_numpy(mask) for key, mask in drawn.items()}} if drawn else {}

        def segment(given: list[Click]) -> np.ndarray:
            prompt = first.with_points([c.voxel for c in given], [c.label for c in given])
            found = engine.inferer.segment(volume, affine, [prompt], engine.network, content=content, **masks)
            return (found.labels > 0).cpu().numpy()

        mask = np.zeros_like(truth)
        clicks, seconds, dice, scores = [], [], [], {}
        most, counts = self.protocol.clicks[-1], self.protocol.counts
        steps = click_through(truth, segment, most, spacing, prompted=counts[0] == 0)
        for count in range(min(counts[0], 1), most + 1):
            step = next(steps, None)
            if step is not None:
                mask = step.mask
                clicks += [] if step.click is None else [[*step.click.voxel, step.click.label]]
                seconds.append(step.seconds)
                dice.append(float(2 * (mask & truth).sum() / (mask.sum() + truth.sum())))
            if count in counts:
                found = mask_scores(torch.from_numpy(mask), torch.from_numpy(truth), spacing, self.tolerance)
                scores |= {f"{metric}@{count}": found[metric] for metric in METRICS}
        times = (seconds[0], float(np.mean(seconds)), float(np.sum(seconds)))
        volumes = [float(m.sum() * np.prod(spacing) / 1000) for m in (truth, mask)]
        measured = zip((*SECONDS, *VOLUMES), (*times, *volumes), strict=True)
        return {**scores, **self.protocol.derived(scores, dice), **dict(measured), "clicks": clicks}, mask


def best_and_worst(rows: Sequence[dict[str, Any]], metric: str, count: int) -> list[dict[str, Any]]:
    """The ``count`` rows of the highest and those of the lowest ``metric``, the earlier one first where they are equal.

    A row that is among the extremes at the end was already among them when it was added, so that only the pictures of
    such rows have to be drawn.
    """
    best = sorted(rows, key=lambda row: -row[metric])[:count]
    return [*best, *sorted(rows, key=lambda row: row[metric])[:count]]


def _draw(
    path: Path, image: MetaTensor, mask: np.ndarray, truth: np.ndarray, given: Sequence[Sequence[int]], title: str
) -> None:
    values = image.as_tensor()[0].numpy()
    grid = Grid(np.asarray(image.affine, dtype=np.float64), values.shape)
    clicks = [(click[:3], click[3]) for click in given]
    window = intensity_bounds(image)
    shown = clicks[0][0] if clicks else deepest_point(truth, grid.spacing)
    save_preview(path, values, mask.astype(np.uint8), grid, window, [title], clicks, shown, truth)
