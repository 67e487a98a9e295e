# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The results of evaluations, read from their folders."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.svd_affine import Adapter
from common.svd_affine.adapt import RUNNING


@dataclass(frozen=True)
class Run:
    """One evaluation.

    Attributes:
        name: runs of one name are repetitions, say with other seeds.
        folder: where metrics.json lies.
        report: its content.
        parameters: numbers that were trained, where it is known.
    """

    name: str
    folder: Path
    report: dict[str, Any]
    parameters: int | None = None

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics that have a mean."""
        return list(self.report["mean"])


def read_runs(given: Sequence[str], parameters: dict[str, int]) -> list[Run]:
    """Runs from ``FOLDER`` or ``NAME=FOLDER``.

    Args:
        given: each the folder of a metrics.json, or that file; the folder's name is the run's where none is given.
        parameters: trained numbers by run name, where no adapter.safetensors in the folder tells.

    Raises:
        ValueError: no such file, another form, or parameters of a run that is not there.
    """
    runs = []
    for text in given:
        name, equals, folder = text.partition("=")
        path = Path(folder if equals else text).expanduser()
        path = path if path.name == "metrics.json" else path / "metrics.json"
        report = _read(path)
        name = name if equals else path.absolute().parent.name
        runs.append(Run(name, path.parent, report, parameters.get(name) or _trained(path.parent, report)))
    unknown = set(parameters) - {run.name for run in runs}
    if unknown:
        raise ValueError(f"--parameters {', '.join(sorted(unknown))}: no such run; there are {[r.name for r in runs]}")
    return runs


def by_name(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Repetitions together, in the order given."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.name, []).append(run)
    return groups


def class_values(runs: Sequence[Run], metric: str) -> dict[str, list[float]]:
    """All values of a metric by class, over the images of all these runs."""
    values: dict[str, list[float]] = {}
    for run in runs:
        for case in run.report["cases"]:
            if metric in case:
                values.setdefault(case["class"], []).append(float(case[metric]))
    return values


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected the output_dir of an evaluate.json, or NAME=FOLDER")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: no valid JSON ({error}); expected what evaluate.json wrote") from error
    whole = isinstance(report, dict) and all(isinstance(report.get(k), t) for k, t in _FORM.items())
    if not whole or not all(_is_number(v) for v in report["mean"].values()):
        raise ValueError(f"{path}: expected mean, per_class and cases, as evaluate.json writes them")
    return report


_FORM = {"mean": dict, "per_class": dict, "cases": list}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _trained(folder: Path, report: dict[str, Any]) -> int | None:
    """Trained numbers: as the report says, else those of the adapter in the folder or the one above it."""
    about = report.get("about")
    if isinstance(about, dict) and isinstance(about.get("trainable_parameters"), int):
        return about["trainable_parameters"]
    for path in (folder / "adapter.safetensors", folder.absolute().parent / "adapter.safetensors"):
        if path.is_file():
            tensors = Adapter.load(path).tensors
            return sum(tensor.numel() for name, tensor in tensors.items() if name.rpartition(".")[2] not in RUNNING)
    return None
