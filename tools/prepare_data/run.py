# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""All steps from a source folder to a prepared one."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tqdm import tqdm

from common.files import check_writable, whole_files
from tools.prepare_data import report, split
from tools.prepare_data.case import Case, Choices, Found, Problem
from tools.prepare_data.catalogue import DATA_SETS, explain, fitting
from tools.prepare_data.prepare import Conversion, earlier_record, file_name, prepare_case

SETTINGS = "prepared.json"
# What a browser or an archive tool leaves of an unfinished download.
UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".aria2", ".tmp")
PACKED = (".zip", ".tar", ".tgz", ".tar.gz", ".rar", ".7z")


def prepare(
    name: str,
    source: Path,
    output: Path,
    choices: Choices | None = None,
    *,
    spacing: tuple[float, float, float] | None = None,
    size: int | None = None,
    slices: str | None = None,
    split_by: str = "seed",
    validation: float = 0.2,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Prepare a data set: ``data_list.json``, ``summary.json``, ``report.md`` and converted files in ``output``.

    A run that was stopped goes on where it was; cases that were left out are tried again.

    Args:
        name: of the data set, see :mod:`tools.prepare_data.catalogue`.
        source: folder as distributed; nothing is written into it.
        output: a new folder, or one of an earlier run with the same settings.
        choices: options that some data sets read.
        spacing: mm, to resample volumes; None leaves them where they are.
        size: longer edge in pixels, to resample pictures.
        slices: ``labelled``, ``all`` or ``no`` axial slices of volumes as images; None for the data set's own way.
        split_by: ``seed`` or ``official``.
        validation: share of the patients.
        seed: of the split.
        workers: processes.
        progress: show a bar.

    Returns:
        what ``summary.json`` holds.

    Raises:
        ValueError: before any work, for folders or settings that do not fit; after it, if no case could be used.
    """
    choices, data_set = choices or Choices(), DATA_SETS[name]
    source, output = source.expanduser().resolve(), output.expanduser().resolve()
    slices = slices or data_set.about.slices
    settings = {
        "name": name, "source": str(source), "spacing": spacing and list(spacing), "size": size, "slices": slices,
        "split": split_by, "validation": validation, "seed": seed,
        **{key: value for key, value in vars(choices).items() if value is not None},
    }  # fmt: skip
    _check_folders(source, output)
    found = _find(name, source, choices)
    section = split.sections(found.cases, split_by, validation, seed)
    _claim(output, json.loads(json.dumps(settings)))
    records = _records(found.cases, Conversion(output, spacing, size, slices), workers, progress)
    items: dict[str, list[dict[str, Any]]] = {name: [] for name in split.SECTIONS}
    for case, record in zip(found.cases, records, strict=True):
        items[section[case.name]] += [_named(item, found) for item in record["items"]]
    if not items["test"]:
        del items["test"]
    summary = report.summarise(records, found, items)
    with whole_files(output) as side:
        (side / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        (side / "report.md").write_text(report.markdown(name, data_set.about, summary, settings))
        if summary["cases"]:
            (side / "data_list.json").write_text(json.dumps(_data_list(name, found, items, summary), indent=2) + "\n")
    if not summary["cases"]:
        raise ValueError(f"{source}: none of {len(records)} cases can be used; see {output / 'report.md'}")
    return summary


def _check_folders(source: Path, output: Path) -> None:
    if not source.is_dir():
        raise ValueError(f"source {source}: no such folder; expected the data set as it is distributed, unpacked")
    if output == source or source in output.parents:
        raise ValueError(f"output {output} lies in the source; expected a folder elsewhere: the source stays as it is")
    check_writable(output)
    if output.is_dir() and any(output.iterdir()) and not (output / SETTINGS).is_file():
        raise ValueError(f"output {output} holds something else; expected a new folder or one that this command made")


def _find(name: str, source: Path, choices: Choices) -> Found:
    found = DATA_SETS[name].find(source, choices)
    found.problems += _leftovers(source)
    if not found.cases:
        others = [n for n in fitting(source) if n != name]
        hint = f"\nIts files are laid out as in: {', '.join(others)}" if others else ""
        noted = "".join(f"\n  {p.text}" for p in found.problems[: report.SHOWN])
        raise ValueError(f"{source}: no complete case of {name}.{noted}\nExpected\n{explain(name)}{hint}")
    names = [file_name(case) for case in found.cases]
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise ValueError(f"{source}: two cases are called {twice}; expected names that differ")
    return found


def _leftovers(source: Path) -> list[Problem]:
    """Archives, and what a download that was cut off leaves."""
    problems = []
    for path in sorted(p for p in source.rglob("*") if p.name.lower().endswith((*UNFINISHED, *PACKED))):
        unfinished = path.name.lower().endswith(UNFINISHED)
        kind, todo = ("unfinished download", "fetch") if unfinished else ("still packed", "unpack")
        problems.append(Problem(kind, f"{path}: what it holds is not used; {todo} it"))
    return problems


def _claim(output: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder ours, or see that it is ours already with these settings."""
    path = output / SETTINGS
    if path.is_file():
        before = json.loads(path.read_text())
        changed = [k for k in {**before, **settings} if before.get(k) != settings.get(k)]
        if changed:
            told = ", ".join(f"{k} was {before.get(k)!r}, now {settings.get(k)!r}" for k in changed)
            raise ValueError(f"output {output} was prepared otherwise ({told}); give another folder")
        for left in output.rglob(".writing_*"):
            shutil.rmtree(left, ignore_errors=True)
        return
    with whole_files(output) as side:
        (side / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")


def _records(cases: Sequence[Case], conversion: Conversion, workers: int, progress: bool) -> list[dict[str, Any]]:
    """The record of each case, those of an earlier run as they are."""
    records = {case.name: earlier_record(case, conversion) for case in cases}
    waiting = [case for case in cases if records[case.name] is None]
    with tqdm(
        total=len(cases), initial=len(cases) - len(waiting), desc="preparing", unit="case", disable=not progress
    ) as bar:
        for record in _prepared(waiting, conversion, min(workers, len(waiting))):
            records[record["name"]] = record
            bar.update()
    return [records[case.name] for case in cases]


def _prepared(cases: Sequence[Case], conversion: Conversion, workers: int) -> Iterator[dict[str, Any]]:
    if workers <= 1:
        yield from (prepare_case(case, conversion) for case in cases)
        return
    # Fresh processes: forks of one that has used torch's threads may hang.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(prepare_case, case, conversion) for case in cases]
        try:
            yield from (future.result() for future in as_completed(futures))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _named(item: dict[str, Any], found: Found) -> dict[str, Any]:
    """The item with masks of overlapping labels by name."""
    if isinstance(item["label"], dict):
        return item | {"label": {found.labels[int(index)]: path for index, path in item["label"].items()}}
    return item


def _data_list(name: str, found: Found, items: Mapping[str, list], summary: Mapping[str, Any]) -> dict[str, Any]:
    modality = dict(enumerate(summary["modality"]))
    return {
        "name": name,
        "licence": DATA_SETS[name].about.licence,
        "modality": {str(k): v for k, v in modality.items()},
        **({"labels": {"0": "background", **{str(k): v for k, v in found.labels.items()}}} if found.labels else {}),
        "numTraining": len(items["training"]),
        **items,
    }
