# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What was prepared and what is wrong with it: summary.json for programs, report.md for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tools.prepare_data.case import About, Found, Problem

# How many problems of a kind a person reads; all are in summary.json.
SHOWN = 20


def summarise(
    records: Sequence[Mapping[str, Any]], found: Found, items: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """Counts, sizes, spacings, labels and problems of a prepared data set.

    Args:
        records: of all cases, see :func:`tools.prepare_data.prepare.prepare_case`.
        found: what the source holds.
        items: of the data list, by section.
    """
    used = [r for r in records if not r["left_out"]]
    problems = [*found.problems, *(Problem(*p) for r in records for p in r["problems"])]
    names = _names(used, found)
    present: dict[str, list[int]] = {name: [] for name in found.labels.values()}
    for record in used:
        for index, count in record["voxels"].items():
            present.setdefault(names[record["name"]].get(index, f"value {index}"), []).append(count)
    for name, counts in present.items():
        if used and not counts:
            problems.append(Problem("label never present", f"{name}: in none of the {len(used)} cases"))
    if found.complete and len(records) < found.complete:
        text = f"{len(records)} of the {found.complete} {found.unit} of the whole data set are there: half a download?"
        problems.append(Problem("incomplete", text))
    return {
        "cases": len(used),
        "left_out": len(records) - len(used),
        "items": {section: len(content) for section, content in items.items()},
        "patients": {section: len({i["patient"] for i in content}) for section, content in items.items()},
        "modality": dict(Counter(i["modality"] for content in items.values() for i in content)),
        "empty_labels": sum(not r["voxels"] for r in used),
        "size": _range([r["shape"] for r in used]),
        "spacing": _range([r["spacing"] for r in used]),
        "labels": {name: _label(counts) for name, counts in present.items()},
        "problems": [{"kind": p.kind, "text": p.text} for p in problems],
    }


def markdown(name: str, about: About, summary: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The readable report."""
    lines = [
        f"# {name}: {about.title}",
        "",
        f"Licence: {about.licence}",
        "",
        "Prepared with",
        "",
        "| option | |",
        "|---|---|",
    ]
    lines += [f"| {key} | {value} |" for key, value in settings.items() if value not in (None, {})]
    lines += [
        "",
        f"{summary['cases']} cases used, {summary['left_out']} left out, {summary['empty_labels']} without any label.",
    ]
    lines += ["", "| section | images | patients |", "|---|---|---|"]
    lines += [f"| {s} | {n} | {summary['patients'][s]} |" for s, n in summary["items"].items()]
    if summary["cases"]:
        lines += ["", "| as stored | smallest | median | largest |", "|---|---|---|---|"]
        for key, what in (("size", "size (pixels)"), ("spacing", "spacing (mm; 1 in pictures)")):
            lines.append(f"| {what} | " + " | ".join(_times(summary[key][k]) for k in ("min", "median", "max")) + " |")
    lines += ["", "| label | cases with it | fewest pixels | median | most |", "|---|---|---|---|---|"]
    for label, about_label in summary["labels"].items():
        numbers = [about_label[k] for k in ("min", "median", "max")] if about_label["cases"] else ["-"] * 3
        lines.append(f"| {label} | {about_label['cases']} | " + " | ".join(str(n) for n in numbers) + " |")
    return "\n".join([*lines, "", *_problems(summary["problems"])]) + "\n"


def _problems(problems: Sequence[Mapping[str, str]]) -> list[str]:
    if not problems:
        return ["No problems found."]
    lines = [f"## Problems ({len(problems)})"]
    for kind, count in Counter(p["kind"] for p in problems).most_common():
        texts = [p["text"] for p in problems if p["kind"] == kind]
        more = [f"- and {count - SHOWN} more, in summary.json"] if count > SHOWN else []
        lines += ["", f"### {kind} ({count})", "", *(f"- {t}" for t in texts[:SHOWN]), *more]
    return lines


def _names(used: Sequence[Mapping[str, Any]], found: Found) -> dict[str, dict[str, str]]:
    """Names of the indices in each case: its own, or those of the data set."""
    own = {case.name: case.label_names for case in found.cases if case.label_names}
    return {r["name"]: {str(k): v for k, v in (own.get(r["name"]) or found.labels).items()} for r in used}


def _label(counts: Sequence[int]) -> dict[str, Any]:
    if not counts:
        return {"cases": 0}
    return {"cases": len(counts), "min": min(counts), "median": int(np.median(counts)), "max": max(counts)}


def _range(rows: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Axis by axis; pictures and volumes never come together."""
    if not rows:
        return {}
    table = np.array(rows, dtype=float)
    functions = {"min": np.min, "median": np.median, "max": np.max}
    return {k: [round(float(v), 4) for v in f(table, axis=0)] for k, f in functions.items()}


def _times(numbers: Sequence[float]) -> str:
    return " x ".join(f"{n:g}" for n in numbers)
