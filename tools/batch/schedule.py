# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Jobs given to workers: each once, as many at a time as the memory bears, again where a worker died."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .crew import Crew, Died, Finished, Ready

# Seconds without news after which the loop looks around.
LOOK = 1.0
# Workers that die one after the other before they are ready: a fault of the computer, which no job mends.
STILLBORN = 5


@dataclass(frozen=True)
class Task:
    """A job to be done.

    Attributes:
        job: see :meth:`.jobs.Job.plain`.
        fingerprint: of what its result depends on.
        memory: bytes that it takes, as far as its header tells.
    """

    job: dict[str, Any]
    fingerprint: str
    memory: int


class Schedule:
    """A run.

    Args:
        tasks: in the order in which they are begun.
        crew: who does them.
        workers: how many at once.
        recorded: the row of a job with this fingerprint, which a worker that died has left in its journal, or None.
        retries: how often a job is begun again whose worker died.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        crew: Crew,
        workers: int,
        recorded: Callable[[str, Task], dict[str, Any] | None],
        retries: int = 2,
    ) -> None:
        self.waiting = deque((task, 1) for task in tasks)
        self.crew, self.recorded, self.retries = crew, recorded, retries
        self.workers = min(workers, len(tasks))
        self.nodes: dict[str, str] = {}
        self.idle: deque[str] = deque()
        self.busy: dict[str, tuple[Task, int]] = {}
        self.deaths = 0
        self.stillborn = 0

    def rows(self) -> Iterator[dict[str, Any] | tuple[Task, str, int]]:
        """As they come: rows of workers, and for each job that is given up the task, the reason and how often it was
        begun.

        Raises:
            ValueError: no worker can begin.
        """
        for _ in range(self.workers):
            self.crew.hire()
        while self.waiting or self.busy:
            self._give()
            for event in self.crew.wait(LOOK):
                if isinstance(event, Ready):
                    self.stillborn = 0
                    self.nodes[event.worker] = event.node
                    self.idle.append(event.worker)
                elif isinstance(event, Finished):
                    self.busy.pop(event.worker)
                    self.idle.append(event.worker)
                    yield event.row
                else:
                    yield from self._bury(event)

    def _give(self) -> None:
        limits = self.crew.memory()
        for _ in range(len(self.idle)):
            if not self.waiting:
                return
            worker = self.idle.popleft()
            task, tries = self.waiting[0]
            if not self._fits(task, self.nodes[worker], limits):
                # In their order: a large image does not wait until all small ones are done.
                self.idle.append(worker)
                continue
            self.waiting.popleft()
            self.busy[worker] = task, tries
            self.crew.give(worker, task.job, task.fingerprint, tries)

    def _fits(self, task: Task, node: str, limits: dict[str, int]) -> bool:
        """Whether there is room beside the jobs that are at work there; alone, any job may try."""
        beside = [other.memory for worker, (other, _) in self.busy.items() if self.nodes[worker] == node]
        return not beside or sum(beside) + task.memory <= limits.get(node, 0)

    def _bury(self, event: Died) -> Iterator[Any]:
        if event.refused:
            raise ValueError(event.reason)
        if event.worker in self.idle:
            self.idle.remove(event.worker)
        if self.nodes.pop(event.worker, None) is None:
            self.stillborn += 1
            if self.stillborn >= STILLBORN:
                raise ValueError(
                    f"{self.stillborn} workers died before they could begin: {event.reason}; expected enough "
                    f"memory for them: give fewer --workers"
                )
        self.deaths += 1
        task, tries = self.busy.pop(event.worker, (None, 0))
        if task is not None:
            row = self.recorded(event.worker, task)
            if row is not None:
                # It was done, and only nobody told.
                yield row
            elif tries <= self.retries:
                self.waiting.appendleft((task, tries + 1))
            else:
                yield task, f"its worker died {tries} times: {event.reason}", tries
        if len(self.waiting) + len(self.busy) > len(self.nodes):
            self.crew.hire()
