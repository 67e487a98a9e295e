# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Workers as actors of a Ray cluster. All its computers see the images and the folder of the run at the same paths."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from .crew import Died, Finished, Ready
from .worker import Setup, Worker

# Results are files: what goes between the computers is a job, and its row. The least that Ray takes.
OBJECT_STORE = 80 << 20
# Of what Ray says a computer has for its tasks.
SHARE = 0.9


class RayActors:
    """See :class:`.crew.Crew`. Ray starts an actor wherever there is room, and tells when it or its computer is gone.

    Args:
        setup: of the run.
        address: of the cluster; None for one on this computer alone, which ends with the run.
        cpus, gpus: of each actor; a share of a GPU, such as 0.25, lets four actors have one together.
        memory: bytes for the jobs on each computer; None for most of what Ray says it has.

    Raises:
        ValueError: no such cluster, or one without such processors.
    """

    def __init__(
        self, setup: Setup, address: str | None = None, cpus: float = 1, gpus: float = 0, memory: int | None = None
    ) -> None:
        self.setup, self.limit = setup, memory
        self._numbers = itertools.count(1)
        self._actors: dict[str, Any] = {}
        # What is waited for: the reference, of which worker, and whether it is its beginning.
        self._pending: dict[Any, tuple[str, bool]] = {}
        self._own = not ray.is_initialized()
        if self._own:
            own = {} if address else {"object_store_memory": OBJECT_STORE, "include_dashboard": False}
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
            except (ConnectionError, ValueError, RuntimeError) as error:
                told = str(error).strip().splitlines()[0][:200]
                raise ValueError(f"--address {address}: no Ray cluster ({told}); expected auto or HOST:PORT") from error
        self.resources = {"num_cpus": cpus, "num_gpus": gpus}
        for name, wanted in (("CPU", cpus), ("GPU", gpus)):
            most = max((node["Resources"].get(name, 0) for node in self._nodes()), default=0)
            if wanted > most:
                self.close()
                raise ValueError(f"{wanted:g} {name} for each worker: the largest computer of the cluster has {most:g}")

    def default_workers(self) -> int:
        """As many as the cluster has room for."""
        rooms = [
            min(node["Resources"].get(name, 0) // wanted for name, wanted in self._wanted()) for node in self._nodes()
        ]
        return max(1, int(sum(rooms)))

    def hire(self) -> str:
        """See :class:`.crew.Crew`."""
        name = f"run{self.setup.run}-actor{next(self._numbers)}"
        # Whether a job is begun again is the schedule's to decide, and not Ray's.
        made = _Actor.options(max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD", **self.resources)
        actor = made.remote(self.setup, name)
        self._actors[name] = actor
        self._pending[actor.node.remote()] = name, True
        return name

    def give(self, worker: str, *arguments: Any) -> None:
        """See :class:`.crew.Crew`."""
        self._pending[self._actors[worker].do.remote(*arguments)] = worker, False

    def wait(self, seconds: float) -> list[Ready | Finished | Died]:
        """See :class:`.crew.Crew`."""
        done, _ = ray.wait(list(self._pending), num_returns=1, timeout=seconds) if self._pending else ([], [])
        return [self._event(reference, *self._pending.pop(reference)) for reference in done]

    def memory(self) -> dict[str, int]:
        """See :class:`.crew.Crew`."""
        return {node["NodeID"]: self.limit or int(SHARE * node["Resources"].get("memory", 0)) for node in self._nodes()}

    def close(self) -> None:
        """See :class:`.crew.Crew`."""
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors.clear()
        if self._own:
            ray.shutdown()

    def _event(self, reference: Any, worker: str, begins: bool) -> Ready | Finished | Died:
        try:
            told = ray.get(reference)
        except RayActorError as error:
            self._actors.pop(worker, None)
            return Died(worker, f"Ray: {str(error).strip().splitlines()[0][:200]}")
        except RayTaskError as error:
            self._actors.pop(worker, None)
            refused = isinstance(error.cause, ValueError)
            return Died(worker, str(error.cause), refused)
        return Ready(worker, told) if begins else Finished(worker, told)

    def _nodes(self) -> Sequence[dict[str, Any]]:
        return [node for node in ray.nodes() if node["Alive"]]

    def _wanted(self) -> list[tuple[str, float]]:
        named = zip(("CPU", "GPU"), self.resources.values(), strict=True)
        return [(name, wanted) for name, wanted in named if wanted]


@ray.remote
class _Actor:
    """A worker on a node of the cluster."""

    def __init__(self, setup: Setup, name: str) -> None:
        self.worker, self.refused = None, ""
        try:
            self.worker = Worker(setup, name)
        except ValueError as error:
            self.refused = str(error)

    def node(self) -> str:
        """The node's id, once the bundle is loaded."""
        if self.worker is None:
            raise ValueError(self.refused)
        return ray.get_runtime_context().get_node_id()

    def do(self, *arguments: Any) -> dict[str, Any]:
        """See :meth:`.worker.Worker.do`."""
        return self.worker.do(*arguments)
