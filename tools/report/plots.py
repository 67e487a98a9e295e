# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Plots of several runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from common.drawn_names import drawn_name
from tools.report.runs import Run, by_name, class_values

CLICKS = re.compile(r"dice@(\d+)$")


def write_plots(folder: Path, runs: Sequence[Run]) -> list[str]:
    """All plots that the runs have numbers for; their names."""
    drawn = [_dice_over_clicks(folder, runs), _boxes_by_class(folder, runs), _parameters(folder, runs)]
    return [name for name in drawn if name]


def main_dice(runs: Sequence[Run]) -> str | None:
    """The Dice that runs are compared by: after the most clicks where there are clicks."""
    metrics = [set(run.metrics) for run in runs]
    shared = set.intersection(*metrics) if metrics else set()
    clicks = sorted(int(m.group(1)) for name in shared if (m := CLICKS.match(name)))
    return "dice" if "dice" in shared else f"dice@{clicks[-1]}" if clicks else None


def _dice_over_clicks(folder: Path, runs: Sequence[Run]) -> str | None:
    """Means over clicks; of repetitions a band from the lowest to the highest."""
    figure, axes = _figure(6.4, 4.2)
    for name, group in by_name(runs).items():
        clicks = sorted({int(m.group(1)) for run in group for metric in run.metrics if (m := CLICKS.match(metric))})
        clicks = [k for k in clicks if all(f"dice@{k}" in run.report["mean"] for run in group)]
        if clicks:
            dice = np.array([[run.report["mean"][f"dice@{k}"] for k in clicks] for run in group])
            axes.plot(clicks, dice.mean(axis=0), "o-", label=drawn_name(name))
            axes.fill_between(clicks, dice.min(axis=0), dice.max(axis=0), alpha=0.2)
    if not axes.lines:
        return None
    axes.set(
        xlabel="clicks", ylabel="mean Dice", ylim=(0, 1), xticks=sorted({int(x) for x in axes.lines[0].get_xdata()})
    )
    axes.legend(fontsize=8, loc="lower right")
    return _save(figure, folder, "dice_over_clicks.png")


def _boxes_by_class(folder: Path, runs: Sequence[Run]) -> str | None:
    """Quartiles of the cases of each class, whiskers to the lowest and the highest."""
    metric = main_dice(runs)
    groups = by_name(runs)
    values = {name: class_values(group, metric) for name, group in groups.items()} if metric else {}
    classes = list(dict.fromkeys(c for of_run in values.values() for c in of_run))
    if not classes:
        return None
    figure, axes = _figure(max(6.4, 0.35 * len(classes) * len(groups) + 2), 4.6)
    width = 0.8 / len(groups)
    for i, (name, of_run) in enumerate(values.items()):
        colour = f"C{i % 10}"
        places = [k + (i - (len(groups) - 1) / 2) * width for k, c in enumerate(classes) if c in of_run]
        boxes = axes.boxplot(
            [of_run[c] for c in classes if c in of_run],
            positions=places, widths=0.85 * width, whis=(0, 100), patch_artist=True, manage_ticks=False,
            medianprops={"color": "black"},
        )  # fmt: skip
        for box in boxes["boxes"]:
            box.set(facecolor=colour, alpha=0.5)
        axes.plot([], [], "s", color=colour, alpha=0.5, label=drawn_name(name))
    axes.set(ylabel=f"{metric}, lowest to highest case", ylim=(0, 1), xlim=(-0.6, len(classes) - 0.4))
    axes.set_xticks(range(len(classes)), [drawn_name(c) for c in classes], rotation=40, ha="right", fontsize=8)
    axes.legend(fontsize=8)
    return _save(figure, folder, "per_class.png")


def _parameters(folder: Path, runs: Sequence[Run]) -> str | None:
    """Mean Dice against trained numbers, bars from the lowest to the highest repetition."""
    metric = main_dice(runs)
    known = {n: g for n, g in by_name(runs).items() if metric and all(run.parameters for run in g)}
    if not known:
        return None
    figure, axes = _figure(6.4, 4.2)
    for name, group in known.items():
        dice = np.array([run.report["mean"][metric] for run in group])
        bars = [[dice.mean() - dice.min()], [dice.max() - dice.mean()]]
        axes.errorbar([group[0].parameters], [dice.mean()], bars, fmt="o", capsize=3, label=drawn_name(name))
    axes.set(xscale="log", xlabel="trained parameters", ylabel=f"mean {metric}")
    axes.legend(fontsize=8)
    return _save(figure, folder, "parameters.png")


def _figure(width: float, height: float):
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Figure, folder: Path, name: str) -> str:
    FigureCanvasAgg(figure).print_png(str(folder / name))
    return name
