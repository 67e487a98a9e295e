# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Small volumes of known objects, and batches whose worker is this process."""

import json
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from two_balls import GRID, PAIR
from volumes import write_nifti

from tools.batch import __main__ as command
from tools.batch.crew import Finished, Ready
from tools.batch.worker import Worker

# Small cubes, asked once: for tests to which any mask is right.
FAST = ("--cube_size", "32", "--small_cube_size", "32", "--rounds", "1")


class Here:
    """A crew of one worker, in this process: starting another takes longer than a small image."""

    def __init__(self, setup: Any) -> None:
        self.setup, self.events = setup, deque()

    def hire(self) -> str:
        self.worker = Worker(self.setup, f"run{self.setup.run}-here")
        self.events.append(Ready("here", "here"))
        return "here"

    def give(self, worker: str, *arguments: Any) -> None:
        self.events.append(Finished(worker, self.worker.do(*arguments)))

    def wait(self, seconds: float) -> list:
        return [self.events.popleft()]

    def memory(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass


@pytest.fixture
def here(monkeypatch):
    """Batches compute in this process."""
    monkeypatch.setattr(command, "hired", lambda options, setup: (Here(setup), 1))


@pytest.fixture
def batch(here):
    """``batch(jobs, output, *options) -> (exit code, the journal's last rows by name)``."""

    def run(jobs: Path, output: Path, *options: Any) -> tuple[int, dict[str, dict]]:
        code = command.main([str(jobs), "--output", str(output), "--no-progress", *map(str, options)])
        lines = [json.loads(x) for f in sorted(output.glob("journal/*.jsonl")) for x in f.read_text().splitlines()]
        return code, {row["name"]: row for row in sorted(lines, key=lambda row: (row["run"], row["finished"]))}

    return run


@pytest.fixture
def ball(tmp_path) -> Path:
    """A volume of two balls."""
    return write_nifti(tmp_path / "ball.nii.gz", PAIR.image(GRID), GRID)


@pytest.fixture
def fast_batch(batch):
    """The same in a tenth of the time, with worse masks."""
    return lambda jobs, output, *options: batch(jobs, output, *FAST, *options)
