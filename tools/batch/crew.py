# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What a run asks of whoever runs its workers: plain processes, or Ray."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol


class Ready(NamedTuple):
    """A worker has loaded the bundle, on a computer (``node``) whose memory it shares with others there."""

    worker: str
    node: str


class Finished(NamedTuple):
    """A worker has done its job; the row is in its journal."""

    worker: str
    row: dict[str, Any]


class Died(NamedTuple):
    """A worker is gone, or could not begin; ``refused`` where it says that no other could either."""

    worker: str
    reason: str
    refused: bool = False


class Crew(Protocol):
    """The workers of a run."""

    def hire(self) -> str:
        """Start a worker; its name, which no other has or had."""

    def give(self, worker: str, *arguments: Any) -> None:
        """Let a worker that is ready do a job: the arguments of :meth:`.worker.Worker.do`."""

    def wait(self, seconds: float) -> Sequence[Ready | Finished | Died]:
        """What happened; empty where nothing did in so many seconds."""

    def memory(self) -> dict[str, int]:
        """Bytes that workers may take on each node."""

    def close(self) -> None:
        """End all workers now."""
