# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Jobs: what is done with one image, from rows of a table, a folder or a DICOM tree; each is named and checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sam_bundles.common.files import check_path, existing
from sam_bundles.common.result_files import case_name

from .configuration import Configuration
from .prompts import SOURCES
from .rows import Row

# Files on the image's grid, or of boxes, whose paths are given as the image's are.
FILES = ("mask", "boxes", "scribble", "lasso", "previous_mask")
# Options that belong to the whole run.
FIXED = {
    "output_dir": "--output says where results go",
    "separate_folder": "every job has a folder of its own",
    "bundle_root": "--bundle says which bundle",
    "device": "it holds for the whole run: --device",
    "image": "the jobs name their images",
}


@dataclass(frozen=True)
class Job:
    """What is done with one image.

    Attributes:
        name: of the job, and of the folder of its results.
        image: its path.
        bundle: folder of the bundle that does it.
        request: prompts, names of labels, and where prompts are taken from.
        settings: options of this job that differ from those of the run.
        kept: columns that go into the table of results as they are.
        where: in the table of jobs.
        problem: why it cannot be done; empty where it may.
        aside: the problem is none that the user has to mend.
    """

    name: str
    image: str
    bundle: str
    request: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)
    where: str = ""
    problem: str = ""
    aside: bool = False

    @property
    def item(self) -> dict[str, Any]:
        """As the bundle's preprocessing takes it."""
        return {"image": self.image, **self.request}

    def plain(self) -> dict[str, Any]:
        """For other processes."""
        return asdict(self)


def read_job(
    row: Row,
    bundle: Callable[[str | None], Configuration],
    defaults: Mapping[str, Any],
    root: Path,
    keep: Sequence[str] = (),
) -> Job:
    """The job of a row, with its problem where it has one.

    Args:
        row: of a table.
        bundle: the one of a name, or that of the run for None.
        defaults: requests of rows that have none of their own; in the paths of files ``{name}`` is the job's name and
            ``{stem}`` its last part.
        root: where relative paths start.
        keep: columns that are only kept.
    """
    cells = dict(row.cells)
    kept = {name: cells.pop(name) for name in keep if name in cells}
    image = str(cells.pop("image", ""))
    path = os.path.join(root, os.path.expanduser(image)) if image else ""
    name = str(cells.pop("name", "") or (case_name(path) if image else row.where))
    asked = cells.pop("bundle", None)
    try:
        configuration, problem = bundle(asked), row.problem or ("" if image else "no image; expected its path")
    except ValueError as error:
        configuration, problem = bundle(None), str(error)
    job = Job(name, path, str(configuration.root), kept=kept, where=row.where, problem=problem)
    if problem:
        return job
    known = (*configuration.request_keys, *SOURCES)
    defaults = {name: value for name, value in defaults.items() if name in known}
    request, settings, problems = {}, {}, []
    names = {"name": name, "stem": name.rpartition("/")[2]}
    for column, given in {**defaults, **cells}.items():
        try:
            if column in FIXED:
                raise ValueError(f"{column}: no column of a job: {FIXED[column]}")
            value = given if column in SOURCES else configuration.value(column, given)
            if column in FILES and isinstance(value, str):
                value = _filled(value, names if column not in cells else {}, root)
            (request if column in known else settings)[column] = value
        except ValueError as error:
            problems.append(str(error))
    return replace(job, request=request, settings=settings, problem="; ".join(problems))


def check_jobs(jobs: Iterable[Job], output: Path) -> list[Job]:
    """The same jobs, with a problem where a name or a file cannot be used."""
    jobs = list(jobs)
    first: dict[str, Job] = {}
    checked = []
    for job in jobs:
        problem = job.problem or _bad_name(job.name, output) or _missing(job)
        # Windows and macOS have one folder for both.
        same = first.setdefault(job.name.lower(), job)
        if same is not job:
            problem = problem or (
                f"the job {same.where or same.image} has the name {job.name!r} too: their results would lie in one "
                f"folder; expected a column name that tells them apart"
            )
            # In the table of results it needs a name of its own.
            job = replace(job, name=f"{job.name} ({job.where or len(checked) + 1})")
        checked.append(replace(job, problem=problem))
    return checked


def _filled(text: str, names: Mapping[str, str], root: Path) -> str:
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return os.path.join(root, os.path.expanduser(text))


def _bad_name(name: str, output: Path) -> str:
    parts = name.split("/")
    if any(part.strip() in ("", ".", "..") or part.startswith(".") for part in parts) or "\\" in name:
        return f"name {name!r}: expected the path of a folder below OUTPUT, such as patient1/t1"
    try:
        check_path(output / name, "name", case_name(parts[-1]) + "_seg_probabilities.nii.gz")
    except ValueError as error:
        return str(error)
    return ""


def _missing(job: Job) -> str:
    """Files that are not there."""
    problems = []
    for key, path in {"image": job.image, **{k: job.request.get(k) for k in FILES}}.items():
        try:
            if path:
                existing(path, "an image" if key == "image" else f"the file of {key}", folders=key == "image")
        except ValueError as error:
            problems.append(str(error))
    return "; ".join(problems)
