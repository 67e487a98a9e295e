# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Runs side by side: CSV for programs, Markdown for people."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tools.report.quoted import Quote
from tools.report.runs import Run, by_name

STATISTICS = ("mean", "median", "min", "max")
# Millilitres up to which an object is of the size before.
SIZES = (("below 1 ml", 0), ("1 to 10 ml", 1), ("10 to 100 ml", 10), ("from 100 ml", 100))
CHALLENGE = (
    "Areas under the curves are of the protocol of the CVPR 2025 challenge on interactive 3D segmentation, on these "
    "volumes: its own figures are of its hidden test set, with the objects of a volume asked for together, and cannot "
    "be compared with them."
)


def rows(runs: Sequence[Run], quotes: Sequence[Quote]) -> list[dict[str, Any]]:
    """A row for each class, metric and statistic: a column for each name, and one for each quoted method.

    Repetitions of a name are averaged; the smallest and largest of them stand in ``NAME lowest`` and
    ``NAME highest``. Class ``all`` is the mean over all cases.
    """
    groups = by_name(runs)
    table = [_row("all", metric, "mean", groups, quotes) for metric in _metrics(runs)]
    for name in dict.fromkeys(name for run in runs for name in run.report["per_class"]):
        for metric in _metrics(runs):
            table += [_row(name, metric, statistic, groups, ()) for statistic in STATISTICS]
    return table


def write_csv(path: Path, table: Sequence[dict[str, Any]]) -> None:
    """All rows."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in table for key in row)), restval="")
        writer.writeheader()
        writer.writerows(table)


def markdown(runs: Sequence[Run], quotes: Sequence[Quote], note: str | None) -> str:
    """Means, then each metric by class as mean (min to max), then what was predicted of absent classes."""
    groups = by_name(runs)
    lines = ["# Runs", "", "| run | folder | cases | trained parameters |", "|---|---|---|---|"]
    lines += [f"| {r.name} | {r.folder} | {len(r.report['cases'])} | {r.parameters or 'not known'} |" for r in runs]
    methods = list(dict.fromkeys(quote.method for quote in quotes))
    lines += ["", "## Mean over all cases", ""]
    lines += ["| metric | " + " | ".join([*groups, *(f"{m} (quoted, not measured here)" for m in methods)]) + " |"]
    lines += ["|---" * (1 + len(groups) + len(methods)) + "|"]
    for metric in _metrics(runs):
        cells = [_group(group, metric) for group in groups.values()]
        cells += [next((f"{q.value:g}" for q in quotes if (q.method, q.metric) == (m, metric)), "") for m in methods]
        lines.append(f"| {metric} | " + " | ".join(cells) + " |")
    sources = list(dict.fromkeys(quote.source for quote in quotes))
    lines += ["", *(f"Quoted from {source}." for source in sources), *([note] if note else [])]
    if any("dice_auc" in run.metrics for run in runs):
        lines += ["", CHALLENGE]
    lines += _by_size(groups)
    for metric in _metrics(runs):
        lines += [
            "",
            f"## {metric} by class: mean (lowest to highest case)",
            "",
            "| class | " + " | ".join(groups) + " |",
        ]
        lines += ["|---" * (1 + len(groups)) + "|"]
        for name in dict.fromkeys(name for run in runs for name in run.report["per_class"]):
            lines.append(f"| {name} | " + " | ".join(_class(g, name, metric) for g in groups.values()) + " |")
    return "\n".join([*lines, *_absent(groups)]) + "\n"


def _metrics(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(metric for run in runs for metric in run.metrics))


def _row(
    name: str, metric: str, statistic: str, groups: dict[str, list[Run]], quotes: Sequence[Quote]
) -> dict[str, Any]:
    row: dict[str, Any] = {"class": name, "metric": metric, "statistic": statistic}
    for title, group in groups.items():
        values = _values(group, name, metric, statistic)
        row[title] = float(np.mean(values)) if values else ""
        if len(group) > 1:
            row[f"{title} lowest"], row[f"{title} highest"] = (min(values), max(values)) if values else ("", "")
    for quote in quotes:
        row[f"{quote.method} (quoted)"] = (
            quote.value if quote.metric == metric else row.get(f"{quote.method} (quoted)", "")
        )
    return row


def _values(group: Sequence[Run], name: str, metric: str, statistic: str) -> list[float]:
    if name == "all":
        return [run.report["mean"][metric] for run in group if metric in run.report["mean"]]
    found = (run.report["per_class"].get(name, {}).get(metric) for run in group)
    return [entry[statistic] for entry in found if entry]


def _group(group: Sequence[Run], metric: str) -> str:
    values = _values(group, "all", metric, "mean")
    if not values:
        return ""
    spread = f" ({min(values):.4g} to {max(values):.4g}, {len(values)} runs)" if len(values) > 1 else ""
    return f"{np.mean(values):.4g}{spread}"


def _class(group: Sequence[Run], name: str, metric: str) -> str:
    mean, low, high = (_values(group, name, metric, statistic) for statistic in ("mean", "min", "max"))
    return f"{np.mean(mean):.4g} ({min(low):.4g} to {max(high):.4g})" if mean else ""


def _by_size(groups: dict[str, list[Run]]) -> list[str]:
    """Dice and clicks by the volume of the object, of runs that say it."""
    lines = []
    for title, group in groups.items():
        cases = [case for run in group for case in run.report["cases"] if "volume_ml" in case and "noc@85" in case]
        edges = [low for _, low in SIZES[1:]]
        for number, (size, _) in enumerate(SIZES):
            found = [c for c in cases if np.searchsorted(edges, c["volume_ml"], side="right") == number]
            if found:
                dice = sorted((k for k in found[0] if k.startswith("dice@")), key=lambda k: int(k[5:]))
                means = ", ".join(f"{k[5:]}: {np.mean([c[k] for c in found]):.3f}" for k in dice)
                clicks = np.mean([c["noc@85"] for c in found])
                lines.append(f"| {title} | {size} | {len(found)} | {means} | {clicks:.1f} |")
    if not lines:
        return []
    head = ["", "## By size of the object", "", "| run | size | cases | mean Dice after clicks | noc@85 |"]
    return [*head, "|---" * 5 + "|", *lines]


def _absent(groups: dict[str, list[Run]]) -> list[str]:
    """False positives of classes that an image does not hold, which enter no mean."""
    lines = []
    for title, group in groups.items():
        for run in group:
            for name, about in (run.report.get("absent") or {}).items():
                size = about.get("predicted_size") or about.get("predicted_voxels")
                if size:
                    lines.append(f"| {title} | {name} | {about['cases']} | {size['mean']:.4g} | {size['max']:.4g} |")
    if not lines:
        return []
    head = ["", "## Predicted where the class is absent (in no mean above)", ""]
    return [*head, "| run | class | images without it | mean size | largest |", "|---|---|---|---|---|", *lines]
