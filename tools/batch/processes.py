# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Workers as processes of this computer."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from .crew import Died, Finished, Ready
from .memory import WORKER, available
from .worker import Setup, Worker

HERE = "this computer"
# Of the memory that is free when the run begins.
SHARE = 0.9
# The exit code of a process that was killed by signal 9.
KILLED = -9
# Seconds between a worker's last word and its end.
PATIENCE = 10.0


class Processes:
    """See :class:`.crew.Crew`. A process that dies takes none of the others with it.

    Args:
        setup: of the run.
        memory: bytes for all workers together; None for most of what is free.
        gpus: numbers of the GPUs that workers take in turns; empty for none.
    """

    def __init__(self, setup: Setup, memory: int | None = None, gpus: Sequence[str] = ()) -> None:
        self.setup = setup
        self.limit, self._free = memory, int(available() * SHARE)
        self.gpus = list(gpus)
        self._numbers = itertools.count(1)
        self._context = multiprocessing.get_context("spawn")
        self._workers: dict[str, tuple[BaseProcess, Connection]] = {}
        self._busy: set[str] = set()

    def hire(self) -> str:
        """See :class:`.crew.Crew`."""
        number = next(self._numbers)
        name = f"run{self.setup.run}-worker{number}"
        gpu = self.gpus[(number - 1) % len(self.gpus)] if self.gpus else None
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, self.setup, name, gpu), name=name, daemon=True)
        process.start()
        # With the other end closed here, a process that is gone is the end of the file.
        theirs.close()
        self._workers[name] = process, ours
        return name

    def give(self, worker: str, *arguments: Any) -> None:
        """See :class:`.crew.Crew`."""
        self._busy.add(worker)
        try:
            self._workers[worker][1].send(arguments)
        except OSError:
            # It has just died, which ``wait`` finds out.
            return

    def wait(self, seconds: float) -> list[Ready | Finished | Died]:
        """See :class:`.crew.Crew`."""
        by_connection = {connection: name for name, (_, connection) in self._workers.items()}
        events: list[Ready | Finished | Died] = []
        for connection in wait(list(by_connection), seconds):
            name = by_connection[connection]
            try:
                kind, told = connection.recv()
            except (EOFError, OSError):
                events.append(Died(name, self._ended(name)))
                continue
            if kind == "ready":
                events.append(Ready(name, HERE))
            elif kind == "finished":
                self._busy.discard(name)
                events.append(Finished(name, told))
            else:
                self._ended(name)
                events.append(Died(name, told, refused=True))
        return events

    def memory(self) -> dict[str, int]:
        """See :class:`.crew.Crew`."""
        return {HERE: self.limit or self._free - len(self._workers) * WORKER}

    def close(self) -> None:
        """See :class:`.crew.Crew`."""
        for name, (process, connection) in self._workers.items():
            # One that waits for a job ends by itself.
            connection.close()
            if name in self._busy:
                process.kill()
        for process, _ in self._workers.values():
            process.join(PATIENCE)
            process.kill()
        self._workers.clear()

    def _ended(self, name: str) -> str:
        """How a worker ended, of which nothing is kept."""
        process, connection = self._workers.pop(name)
        connection.close()
        process.join(PATIENCE)
        if process.exitcode is None:
            process.kill()
            process.join()
        code = process.exitcode
        if code == KILLED:
            return "it was killed, as the system does where memory is short (signal 9)"
        return f"it ended by signal {-code}" if code < 0 else f"it ended with code {code}"


def _work(connection: Connection, setup: Setup, name: str, gpu: str | None) -> None:
    """A worker's life."""
    # Ctrl+C reaches all processes of a terminal: the first one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        worker = Worker(setup, name)
    except ValueError as error:
        connection.send(("refused", str(error)))
        return
    connection.send(("ready", None))
    while True:
        try:
            arguments = connection.recv()
        except EOFError:
            return
        connection.send(("finished", worker.do(*arguments)))


def _end_with_the_parent() -> None:
    # Whoever resumes a run that was killed finds nobody at work on it.
    parent = multiprocessing.parent_process()
    wait([parent.sentinel])
    os._exit(1)
