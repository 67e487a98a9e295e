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
from ..common.prompts import ObjectPrompt
from .cases import FinishedCases

METRICS = ("dice", "nsd", "hd95")
SECONDS = ("seconds_first_click", "seconds_per_click")
# Of the truth, and of the mask after the last click.
VOLUMES = ("volume_ml", "predicted_ml")


class Step(NamedTuple):
    """A click, the mask after it, (X, Y, Z) bool, and the seconds that the mask took."""

    click: Click
    mask: np.ndarray
    seconds: float


def click_through(
    truth: np.ndarray, segment: Callable[[list[Click]], np.ndarray], count: int, spacing: Sequence[float]
) -> Iterator[Step]:
    """Click ``count`` times, fewer where nothing is wrong any more.

    The first click is the deepest voxel of the truth, each further one the deepest point of the largest error; depth
    is measured in mm, on the image's own grid, and nothing is random.

    Args:
        truth: (X, Y, Z) bool, with at least one true voxel.
        segment: all clicks so far -> mask of the same shape.
        count: of clicks.
        spacing: mm between voxels.
    """
    click: Click | None = Click(deepest_point(truth, spacing), 1)
    clicks: list[Click] = []
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
        clicks: numbers of clicks after which the mask is scored.
        tolerance: mm, of the surface Dice.
        previews: how many of the best and of the worst cases have their picture drawn.

    Raises:
        ValueError: numbers of clicks that are not positive and rising.
    """

    def __init__(
        self,
        preprocessing: Callable[[Mapping[str, Any]], dict[str, Any]],
        finished: FinishedCases,
        clicks: Sequence[int] = (1, 3, 5, 10),
        tolerance: float = 2.0,
        previews: int = 3,
    ) -> None:
        if not clicks or list(clicks) != sorted(set(clicks)) or clicks[0] < 1:
            raise ValueError(f"clicks {list(clicks)}: expected rising numbers from 1 on, such as [1, 3, 5, 10]")
        self.preprocessing = preprocessing
        self.finished = finished
        self.clicks = tuple(clicks)
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
        return f"dice@{self.clicks[-1]}"

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
        clicks, seconds, scores = [], [], {}

        def segment(given: list[Click]) -> np.ndarray:
            points = tuple(tuple(float(x) for x in c.voxel) for c in given)
            prompt = ObjectPrompt(name, points, tuple(c.label for c in given))
            found = engine.inferer.segment(volume, affine, [prompt], engine.network, content=content)
            return (found.labels > 0).cpu().numpy()

        mask = np.zeros_like(truth)
        steps = click_through(truth, segment, self.clicks[-1], spacing)
        for count in range(1, self.clicks[-1] + 1):
            step = next(steps, None)
            if step is not None:
                mask = step.mask
                clicks.append([*step.click.voxel, step.click.label])
                seconds.append(step.seconds)
            if count in self.clicks:
                found = mask_scores(torch.from_numpy(mask), torch.from_numpy(truth), spacing, self.tolerance)
                scores |= {f"{metric}@{count}": found[metric] for metric in METRICS}
        times = (seconds[0], float(np.mean(seconds)))
        volumes = [float(m.sum() * np.prod(spacing) / 1000) for m in (truth, mask)]
        measured = zip((*SECONDS, *VOLUMES), (*times, *volumes), strict=True)
        return {**scores, **dict(measured), "clicks": clicks}, mask


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
    save_preview(path, values, mask.astype(np.uint8), grid, window, [title], clicks, clicks[0][0], truth)
