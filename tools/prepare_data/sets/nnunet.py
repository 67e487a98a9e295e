# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Any data set in nnU-Net's raw form, of version 1 or 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.label_table import read_label_names
from common.reading.picture import SUFFIXES as PICTURES
from tools.prepare_data.case import VOLUMES, Case, Choices, Found, Problem, files_in, read_object, stem
from tools.prepare_data.labels import Values


def find(source: Path, choices: Choices) -> Found:
    """The labelled cases of one data set."""
    content = read_object(source / "dataset.json")
    channels = content.get("channel_names") or content.get("modality")
    labelled = (source / "labelsTr").is_dir() and isinstance(channels, dict)
    if not labelled or not any("_0000." in p.name for p in files_in(source / "imagesTr", "*")):
        return Found({})
    names, ignored, problems = label_names(choices.labels or content.get("labels", {}))
    channel = choose_channel(channels, choices.contrast)
    found = Found(names, problems=problems, unit="cases", complete=_count(content))
    files = {p.name: p for p in files_in(source / "imagesTr", "*")}
    labels = [p for p in files_in(source / "labelsTr", "*") if p.name.lower().endswith((*VOLUMES, *PICTURES))]
    for path in labels:
        ending = content.get("file_ending") or path.name[len(stem(path)) :]
        image = files.get(
            f"{stem(path)}_{channel:04d}{ending}", source / "imagesTr" / f"{stem(path)}_{channel:04d}{ending}"
        )
        label = Values(path, {v: v for v in names}, (0, *ignored))
        found.add(Case(stem(path), stem(path), image, label, str(channels[str(channel)])))
    labelled_cases = {stem(p) for p in labels}
    for name in sorted({stem(p)[: -len("_0000")] for p in files.values()} - labelled_cases):
        found.problems.append(Problem("missing pair", f"{name}: no label in labelsTr: left out"))
    return found


def _count(content: dict[str, Any]) -> int | None:
    stated = content.get("numTraining")
    return stated if isinstance(stated, int) else None


def label_names(given: dict[str, Any]) -> tuple[dict[int, str], tuple[int, ...], list[Problem]]:
    """Names by value, values to ignore, and notes, from {"1": NAME} or {NAME: 1}."""
    names = read_label_names(given, "labels") if given else {}
    if any(isinstance(key, str) for key in names):
        raise ValueError(f"labels {given} are regions of several values; name the values: --labels '{{\"1\": NAME}}'")
    ignored = tuple(v for v, name in names.items() if name.lower() == "ignore")
    notes = [Problem("ignored voxels", f"value {v} means ignore; these voxels become background") for v in ignored]
    return {v: name for v, name in sorted(names.items()) if v not in ignored}, ignored, notes


def choose_channel(channels: dict[str, str], wanted: str | None) -> int:
    """Number of the channel of this name or number. Raises ValueError where there is none."""
    if wanted is None:
        return min(int(k) for k in channels)
    for number, name in channels.items():
        if wanted.lower() in (str(number), str(name).lower()):
            return int(number)
    raise ValueError(f"--contrast {wanted}: the data set has {', '.join(f'{k} {v}' for k, v in channels.items())}")
