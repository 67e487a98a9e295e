# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Real processes, killed by signal 9 at any moment: nothing that was kept is lost, nothing is done twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from many_balls import journal, make_jobs, masks

# Each run loads torch and the weights in processes of its own.
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
COUNT = 8


@pytest.fixture(scope="module")
def jobs(tmp_path_factory) -> Path:
    return make_jobs(tmp_path_factory.mktemp("jobs"), COUNT)


def started(jobs: Path, output: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tools.batch", str(jobs), "--output", str(output), "--no-progress", "--worst", "0"]
    return subprocess.Popen([*command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen) -> str:
    told, wrong = process.communicate(timeout=300)
    assert process.returncode == 0, wrong
    return told


def wait_for(output: Path, count: int, process: subprocess.Popen) -> None:
    while len(journal(output)) < count:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(jobs, tmp_path_factory) -> dict[str, bytes]:
    """The masks of a run of one worker that nobody disturbs."""
    output = tmp_path_factory.mktemp("whole") / "out"
    ended(started(jobs, output, "--workers", "1"))
    assert len(masks(output)) == COUNT
    return masks(output)


def test_the_run_is_killed_and_goes_on(jobs, whole, tmp_path):
    run = started(jobs, tmp_path / "out", "--workers", "2")
    wait_for(tmp_path / "out", 3, run)
    run.kill()
    run.wait()
    # Workers end with it, at once: whoever goes on finds nobody there.
    time.sleep(1)
    kept = journal(tmp_path / "out")
    assert 3 <= len(kept) < COUNT
    told = ended(started(jobs, tmp_path / "out", "--workers", "2"))
    assert f"{COUNT} jobs, {COUNT - len(kept)} of them now: {COUNT} done" in told
    rows = journal(tmp_path / "out")
    assert sorted(row["name"] for row in rows) == [f"b{i}" for i in range(COUNT)]
    assert {row["name"] for row in rows if row["run"] == 1} == {row["name"] for row in kept}
    assert masks(tmp_path / "out") == whole
    assert not list((tmp_path / "out").rglob(".writing_*"))
    # Once more there is nothing to do.
    assert f"{COUNT} jobs, 0 of them now" in ended(started(jobs, tmp_path / "out"))


def test_workers_are_killed_and_nobody_notices_in_the_results(jobs, whole, tmp_path):
    run = started(jobs, tmp_path / "out", "--workers", "2")
    wait_for(tmp_path / "out", 2, run)
    # Both of them, so that others have to do the rest.
    victims = [p for p in children(run.pid) if "spawn_main" in command_of(p)]
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    assert f"{COUNT} done" in ended(run)
    rows = journal(tmp_path / "out")
    assert sorted(row["name"] for row in rows) == [f"b{i}" for i in range(COUNT)]
    assert len(victims) == 2 and len({row["worker"] for row in rows}) > 2
    assert masks(tmp_path / "out") == whole


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    if not listed.exists():
        pytest.skip("needs /proc, to find the workers")
    return [int(p) for p in listed.read_text().split()]


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()
