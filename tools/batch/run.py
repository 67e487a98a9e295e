# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A run from its jobs to its tables: what is done already is left, what is not is done, every row is kept."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sam_bundles.common.files import remove_unfinished
from tqdm import tqdm

from .crew import Crew
from .fingerprint import Fingerprints
from .jobs import Job
from .journal import FOLDER as JOURNALS
from .journal import Journal
from .memory import needed
from .results import write_tables
from .schedule import Schedule, Task
from .worker import MASKS

LOCK = ".lock"
# Seconds between two states of the tables, and how many times longer than writing them that is at least.
EVERY, RATIO = 30.0, 20.0
# Of this process, for jobs that no worker did.
WRITER = "checks"


class Run:
    """Jobs and the folder of their results.

    Args:
        output: folder; made where it does not exist.
        jobs: checked.
        fingerprints: of the jobs.
        retries: see :class:`.schedule.Schedule`.
        progress: show a bar.
    """

    def __init__(
        self,
        output: Path,
        jobs: Sequence[Job],
        fingerprints: Fingerprints,
        retries: int = 2,
        progress: bool = True,
    ) -> None:
        self.output, self.jobs = output, list(jobs)
        self.fingerprints, self.retries, self.progress = fingerprints, retries, progress
        self.journal = Journal(output)
        self.journal.compact()
        self.rows = self.journal.last()
        self.number = 1 + max((row["run"] for row in self.rows.values()), default=0)
        self._next = 0.0

    def tasks(self) -> list[Task]:
        """What is missing, has failed or has changed since; jobs with a problem get their row here."""
        tasks = []
        for job in tqdm(self.jobs, desc="checking", unit="job", disable=not self.progress, leave=False):
            problem, fingerprint = job.problem, ""
            if not problem:
                try:
                    fingerprint = self.fingerprints.of(job)
                except (ValueError, OSError) as error:
                    problem = str(error)
            if problem:
                self._refuse(job, problem)
            elif self._is_done(job, fingerprint):
                # What is only kept of the jobs is as they say it now.
                self.rows[job.name] |= {"kept": job.kept}
            else:
                tasks.append(Task(job.plain(), fingerprint, needed(job.image)))
        return tasks

    def finish(self, tasks: Sequence[Task], crew: Crew, workers: int) -> None:
        """Do the tasks, with so many workers of a crew, which ends then."""
        schedule = Schedule(tasks, crew, workers, self._recorded, self.retries)
        shown = {"desc": "images", "unit": "image", "disable": not self.progress}
        failed = 0
        with closing(crew), tqdm(total=len(self.jobs), initial=len(self.jobs) - len(tasks), **shown) as bar:
            for row in schedule.rows():
                if isinstance(row, tuple):
                    row = self._given_up(*row)
                self.rows[row["name"]] = row
                failed += row["status"] == "failed"
                bar.set_postfix(failed=failed, refresh=False)
                bar.update()
                self.write(now=False)

    def counts(self) -> Counter:
        """How many jobs there are of each status."""
        return Counter(self.rows[job.name]["status"] for job in self.jobs)

    def write(self, now: bool = True) -> list[Path]:
        """The tables, if it is time."""
        start = time.monotonic()
        if not now and start < self._next:
            return []
        known = {job.name for job in self.jobs}
        # Results of other jobs in the same folder stay in its tables.
        rows = [row for name, row in self.rows.items() if name not in known]
        files = write_tables(self.output, [*rows, *(self.rows[j.name] for j in self.jobs if j.name in self.rows)])
        self._next = time.monotonic() + max(EVERY, RATIO * (time.monotonic() - start))
        return files

    def _is_done(self, job: Job, fingerprint: str) -> bool:
        row = self.rows.get(job.name)
        if row is None or row["status"] != "done" or row["fingerprint"] != fingerprint:
            return False
        return all((self.output / MASKS / job.name / name).is_file() for name in row["files"])

    def _recorded(self, worker: str, task: Task) -> dict[str, Any] | None:
        for row in self.journal.rows(worker):
            if row["name"] == task.job["name"] and row["fingerprint"] == task.fingerprint:
                return row
        return None

    def _refuse(self, job: Job, problem: str) -> None:
        where = f"{job.where}: " if job.where else ""
        status = "left out" if job.aside else "refused"
        row = self._row(job.plain(), status, f"{where}{problem}", "", 0)
        before = self.rows.get(job.name, {})
        if any(before.get(key) != row[key] for key in ("status", "reason", "image", "kept")):
            self.journal.append(self._writer, row)
            self.rows[job.name] = row

    def _given_up(self, task: Task, reason: str, tries: int) -> dict[str, Any]:
        row = self._row(task.job, "failed", reason, task.fingerprint, tries)
        self.journal.append(self._writer, row)
        return row

    @property
    def _writer(self) -> str:
        return f"run{self.number}-{WRITER}"

    def _row(self, job: Mapping[str, Any], status: str, reason: str, fingerprint: str, tries: int) -> dict[str, Any]:
        return {
            **{key: job[key] for key in ("name", "image", "kept")},
            "status": status,
            "reason": reason,
            "seconds": None,
            "worker": None,
            "tries": tries,
            "run": self.number,
            "finished": time.time(),
            "fingerprint": fingerprint,
        }


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """The folder for this process alone, and without what killed runs left half-written.

    Raises:
        ValueError: another run is at work in it.
    """
    output.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(output / LOCK, timeout=0):
            for folder in (output, output / JOURNALS, *_folders(output / MASKS)):
                remove_unfinished(folder)
            yield
    except Timeout as error:
        raise ValueError(
            f"{output}: another run is at work there; expected to wait for it, or another --output"
        ) from error


def _folders(top: Path) -> Iterator[Path]:
    for place, _, _ in os.walk(top):
        yield Path(place)
