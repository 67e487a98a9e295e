# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The results of all cases as a table, a plot and pictures."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..common.drawn_names import drawn_name
from ..common.files import whole_files
from ..common.result_files import case_name
from ..common.score_report import write_report
from .cases import FinishedCases, list_absent, list_cases
from .click_through import best_and_worst
from .protocol import Protocol

logger = logging.getLogger(__name__)
# Lines of single classes that can be told apart in the plot.
CLASSES = 8


class EvaluationReport:
    """Writes ``metrics.json``, ``metrics.csv``, ``dice_over_clicks.png`` and ``previews`` when the evaluator is done.

    Of several processes the first one writes, after all of them are done.

    Args:
        items: of ``check_cases``.
        finished: where the results are.
        output_dir: made where it does not exist; files of an earlier report are replaced.
        protocol: how objects were asked for, and when masks were scored.
        previews: how many of the best and of the worst cases are shown.
    """

    def __init__(
        self,
        items: Sequence[Mapping[str, Any]],
        finished: FinishedCases,
        output_dir: str | Path,
        protocol: Protocol = Protocol(),  # noqa: B008
        previews: int = 3,
    ) -> None:
        self.items = items
        self.finished = finished
        self.output_dir = Path(output_dir).expanduser()
        self.protocol = protocol
        self.previews = previews

    def attach(self, engine: Engine) -> None:
        """Called by MONAI for each handler of an engine."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        idist.barrier()
        if idist.get_rank() == 0:
            cases = list_cases(self.items)
            rows = [self.finished.load(case) for case in cases]
            counts, absent = self.protocol.counts, list_absent(self.items)
            report = write_report(self.output_dir, rows, self.protocol.numbers, absent, self.finished.about)
            with whole_files(self.output_dir) as side:
                save_dice_plot(side / "dice_over_clicks.png", report, counts)
            self._show_extremes(cases, rows)
            self.finished.clear()
            dice = ", ".join(f"{report['mean'][f'dice@{k}']:.3f} after {k}" for k in counts)
            logger.info("%d cases, mean Dice %s clicks; %s", len(rows), dice, self.output_dir / "metrics.json")
        idist.barrier()

    def _show_extremes(self, cases: Sequence[Mapping[str, Any]], rows: Sequence[dict[str, Any]]) -> None:
        count, folder = min(self.previews, len(rows)), self.output_dir / "previews"
        shutil.rmtree(folder, ignore_errors=True)
        if not count:
            return
        shown = best_and_worst(rows, f"dice@{self.protocol.clicks[-1]}", count)
        kinds = [f"{kind}_{i}" for kind in ("best", "worst") for i in range(1, count + 1)]
        with whole_files(folder) as side:
            for kind, row in zip(kinds, shown, strict=True):
                case = cases[next(i for i, other in enumerate(rows) if other is row)]
                name = "".join(c if c.isalnum() else "_" for c in f"{case_name(row['image'])}_{row['class']}")
                shutil.copyfile(self.finished.preview(case), side / f"{kind}_{name}.png")


def save_dice_plot(path: Path, report: Mapping[str, Any], clicks: Sequence[int]) -> None:
    """Write a PNG: mean Dice over the number of clicks, where 80 % of the cases lie, and single classes if few."""
    figure = Figure(figsize=(6, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    scores = np.array([[case[f"dice@{k}"] for k in clicks] for case in report["cases"]])
    low, high = np.percentile(scores, (10, 90), axis=0)
    axes.fill_between(clicks, low, high, alpha=0.15, label="10th to 90th percentile")
    axes.plot(clicks, scores.mean(axis=0), "o-", lw=2.2, label=f"mean of {len(scores)} cases")
    if 1 < len(report["per_class"]) <= CLASSES:
        for name, summary in report["per_class"].items():
            axes.plot(clicks, [summary[f"dice@{k}"]["mean"] for k in clicks], ".-", lw=0.9, label=drawn_name(name))
    axes.set(xlabel="clicks", ylabel="Dice on the image's grid", ylim=(0, 1), xticks=list(clicks))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    FigureCanvasAgg(figure).print_png(str(path))
