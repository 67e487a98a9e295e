# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Jobs given to workers that die, in a crew that does what the test says."""

from collections import deque

import pytest

from tools.batch.crew import Died, Finished, Ready
from tools.batch.schedule import STILLBORN, Schedule, Task


class Scripted:
    """Workers on nodes in turns. ``plan``: what becomes of the first, second, ... time that a job is begun:
    ``dies``, ``dies told`` after its row was kept, anything else for done.
    """

    def __init__(self, plan=None, nodes=("a",), memory=None, at_once=True):
        self.plan, self.nodes, self.limits = dict(plan or {}), nodes, memory or {}
        self.events, self.kept, self.begun, self.hired = deque(), {}, [], 0
        self.at_once, self.running, self.together = at_once, [], []

    def hire(self):
        self.hired += 1
        name = f"w{self.hired}"
        self.events.append(Ready(name, self.nodes[self.hired % len(self.nodes)]))
        return name

    def give(self, worker, job, fingerprint, tries):
        self.begun.append((job["name"], tries))
        self.running.append(job["name"])
        self.together.append(sorted(self.running))
        fates = self.plan.get(job["name"], [])
        fate = fates[tries - 1] if tries <= len(fates) else "done"
        row = {"name": job["name"], "fingerprint": fingerprint}
        if fate != "dies":
            self.kept[worker] = row
        self.events.append(Died(worker, "killed") if fate.startswith("dies") else Finished(worker, row))

    def wait(self, seconds):
        event = self.events.popleft()
        if not isinstance(event, Ready) and self.running:
            self.running.pop(0)
        return [event]

    def memory(self):
        return self.limits

    def recorded(self, worker, task):
        row = self.kept.get(worker)
        return row if row and row["name"] == task.job["name"] else None


def ran(crew, names, workers=2, retries=2, memory=0):
    tasks = [Task({"name": n}, f"f{n}", memory) for n in names]
    return list(Schedule(tasks, crew, workers, crew.recorded, retries).rows())


def test_each_job_once():
    crew = Scripted()
    assert [row["name"] for row in ran(crew, "abcdef")] == list("abcdef")
    assert crew.begun == [(n, 1) for n in "abcdef"] and crew.hired == 2


def test_no_more_workers_than_jobs():
    crew = Scripted()
    ran(crew, "a", workers=8)
    assert crew.hired == 1


def test_a_worker_that_dies_is_replaced_and_its_job_begun_again():
    crew = Scripted({"b": ["dies"], "e": ["dies", "dies"]})
    assert sorted(row["name"] for row in ran(crew, "abcdef")) == list("abcdef")
    assert sorted(crew.begun) == sorted([*((n, 1) for n in "abcdef"), ("b", 2), ("e", 2), ("e", 3)])
    # Two to begin with, and one for each that died while there was work for two.
    assert crew.hired == 4


def test_what_was_kept_before_the_worker_died_is_not_done_again():
    crew = Scripted({"b": ["dies told"]})
    assert sorted(row["name"] for row in ran(crew, "abc")) == list("abc")
    assert ("b", 2) not in crew.begun


def test_a_job_that_kills_every_worker_is_given_up_and_the_others_are_done():
    crew = Scripted({"b": ["dies"] * 9})
    *_, given_up = sorted(ran(crew, "abc", retries=2), key=lambda row: isinstance(row, tuple))
    task, reason, tries = given_up
    assert task.job["name"] == "b" and tries == 3 and "died 3 times: killed" in reason
    assert [t for n, t in crew.begun if n == "b"] == [1, 2, 3] and ("c", 1) in crew.begun


def test_a_worker_that_refuses_ends_the_run_with_its_reason():
    crew = Scripted()
    crew.hire = lambda: crew.events.append(Died("w", "weights of another architecture", refused=True))
    with pytest.raises(ValueError, match="another architecture"):
        ran(crew, "ab")


def test_workers_that_never_begin_end_the_run():
    crew = Scripted()
    crew.hire = lambda: crew.events.append(Died("w", "killed"))
    with pytest.raises(ValueError, match=f"{STILLBORN} workers died before they could begin: killed"):
        ran(crew, "ab")


@pytest.mark.parametrize(("limits", "most"), [({"a": 10}, 1), ({"a": 20}, 2), ({"a": 35}, 3), ({"a": 5}, 1)], ids=str)
def test_as_many_at_a_time_as_the_memory_bears(limits, most):
    crew = Scripted(memory=limits)
    assert len(ran(crew, "abcdefgh", workers=4, memory=10)) == 8
    assert max(map(len, crew.together)) == most


def test_memory_is_each_node_s_own():
    crew = Scripted(nodes=("a", "b"), memory={"a": 10, "b": 10})
    assert len(ran(crew, "abcdefgh", workers=4, memory=10)) == 8
    assert max(map(len, crew.together)) == 2
