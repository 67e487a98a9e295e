# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The scores of an evaluation as files."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .files import whole_files


def write_report(
    folder: str | Path,
    cases: Sequence[Mapping[str, Any]],
    metrics: Sequence[str],
    absent: Sequence[Mapping[str, Any]] = (),
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write ``metrics.json`` and ``metrics.csv``, both whole or not at all.

    Args:
        folder: made where it does not exist.
        cases: one for each class in each image, with ``image``, ``class`` and a number for each metric; what else
            they hold is kept.
        metrics: that are averaged, in the order of the columns.
        absent: one for each class that an image does not hold, with ``image``, ``class`` and maybe numbers, such as
            how much was predicted all the same. They enter no mean.
        about: what was evaluated and how, if it shall be in the report.

    Returns:
        what ``metrics.json`` holds: ``mean`` of each metric over all cases; ``per_class`` with ``mean``, ``median``,
        ``min``, ``max`` of each metric and the number of ``cases``; ``absent``, the same by class for what is absent;
        ``cases``, ``absent_cases`` and ``about`` as given.

    Raises:
        ValueError: a case without image, class or a finite number for each metric.
    """
    for case in (*cases, *absent):
        if not case.get("image") or not case.get("class"):
            raise ValueError(f"the case {dict(case)} has no image or no class: expected both")
    for case in cases:
        without = [m for m in metrics if not _is_number(case.get(m))]
        if without:
            raise ValueError(
                f"{case['image']}, {case['class']}: {without[0]} is {case.get(without[0])}; expected a finite number"
            )
    report = {
        "mean": {m: float(np.mean([case[m] for case in cases])) for m in metrics} if cases else {},
        "per_class": {name: _summary(rows, metrics) for name, rows in _by_class(cases).items()},
        "absent": {name: _summary(rows, _numbers(rows)) for name, rows in _by_class(absent).items()},
        "cases": [dict(case) for case in cases],
        "absent_cases": [dict(case) for case in absent],
        **({"about": dict(about)} if about is not None else {}),
    }
    with whole_files(Path(folder)) as side:
        (side / "metrics.json").write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
        with open(side / "metrics.csv", "w", newline="") as file:
            table = csv.DictWriter(file, ["image", "class", *metrics], extrasaction="ignore")
            table.writeheader()
            table.writerows(cases)
    return report


def _summary(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> dict[str, Any]:
    summary: dict[str, Any] = {"cases": len(rows)}
    for metric in metrics:
        values = [row[metric] for row in rows]
        functions = {"mean": np.mean, "median": np.median, "min": np.min, "max": np.max}
        summary[metric] = {name: float(function(values)) for name, function in functions.items()}
    return summary


def _by_class(cases: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The cases of each class, the classes in the order in which they first come."""
    classes: dict[str, list[Mapping[str, Any]]] = {}
    for case in cases:
        classes.setdefault(case["class"], []).append(case)
    return classes


def _numbers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys under which every row has a number."""
    return [key for key in rows[0] if all(_is_number(row.get(key)) for row in rows)]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
