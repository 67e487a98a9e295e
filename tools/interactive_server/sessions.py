# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Who holds a place on the server: a lease for each client, with a session and a thread of its own.

Work is done in the lease's thread, one piece after the other. Looking a lease up, heartbeats and giving it back never
wait for that. Predictions of all leases take turns, since each of them uses all cores; so do preparations, in a thread
of their own, so that a lease does other work meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any, TypeVar

from sam_bundles.common.gate import Refusal

from sam_bundles import Engine, Session

from .settings import Settings

log = logging.getLogger("sam_bundles.server")
Result = TypeVar("Result")
# Pieces of work that one client may have waiting.
MAX_WAITING = 16
SECONDS_TO_RETRY = 10


class Lease:
    """One client's place.

    Attributes:
        token: its secret name.
        session: the image and its prompts.
        kept: what a protocol keeps beside it.
        heartbeats: whether the client sends them, so that one that is silent is dead. One that does not loses its place
            to another client alone.
    """

    def __init__(
        self, session: Session, turn: threading.Lock, background: ThreadPoolExecutor, heartbeats: bool = True
    ) -> None:
        self.token = secrets.token_hex(16)
        self.session = session
        self.kept: dict[str, Any] = {}
        self.heartbeats = heartbeats
        self.seen_at = self.active_at = time.monotonic()
        self.waiting = 0
        self._turn = turn
        self._background = background
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"session-{self.token[:6]}")

    def seen(self) -> None:
        """Note that the client is alive."""
        self.seen_at = time.monotonic()

    def active(self) -> None:
        """Note that the client does something."""
        self.seen_at = self.active_at = time.monotonic()

    async def run(self, work: Callable[[], Result]) -> Result:
        """What ``work`` returns, done in the lease's thread.

        Raises:
            Refusal: 400 for a ValueError of the work, 413 where memory does not suffice, 429 where too much waits, 410
                where the lease ended before.
        """
        if self.waiting >= MAX_WAITING:
            raise Refusal(429, f"{MAX_WAITING} calls of this client wait already: wait for their answers")
        self.waiting += 1
        self.active()
        try:
            return await asyncio.wrap_future(self._submit(work))
        except ValueError as error:
            raise Refusal(400, str(error)) from error
        except MemoryError as error:
            raise Refusal(413, "the server's memory does not suffice: send a smaller image") from error
        except (CancelledError, asyncio.CancelledError) as error:
            raise gone() from error
        finally:
            self.waiting -= 1
            self.active()

    async def predict(self, work: Callable[[], Result]) -> Result:
        """As :meth:`run`, when no other lease predicts."""

        def in_turn() -> Result:
            with self._turn:
                return work()

        return await self.run(in_turn)

    def begin(self, work: Callable[[], Any]) -> None:
        """Do ``work`` in the lease's thread, when no other lease predicts, and do not wait; what fails is logged."""
        self._submit(lambda: self._quietly(work))

    def prepare(self) -> None:
        """Prepare the image for the first click, beside what else the lease does, and do not wait."""
        self._background.submit(lambda: self._quietly(self.session.prepare))

    def _quietly(self, work: Callable[[], Any]) -> None:
        with self._turn:
            try:
                work()
            except Exception as error:
                log.warning("prepared nothing: %s", error)

    def close(self) -> None:
        """End it; what is being done is finished, what waits is not."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _submit(self, work: Callable[[], Result]) -> Any:
        try:
            return self._worker.submit(work)
        except RuntimeError as error:
            raise gone() from error


class Leases:
    """All places.

    Args:
        settings: how many, and for how long.
        engine: what all sessions predict with.
    """

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings = settings
        self.engine = engine
        self._turn = threading.Lock()
        self._background = ThreadPoolExecutor(1, thread_name_prefix="preparing")
        self._held: dict[str, Lease] = {}
        self._lock = threading.Lock()

    def claim(self, heartbeats: bool = True) -> Lease:
        """A new place.

        Raises:
            Refusal: 503, all are taken.
        """
        self.sweep()
        if len(self._held) >= self.settings.max_sessions:
            self.sweep(needed=True)
        lease = Lease(Session(self.engine), self._turn, self._background, heartbeats)
        with self._lock:
            if len(self._held) < self.settings.max_sessions:
                self._held[lease.token] = lease
                log.info("%d of %d places taken", len(self._held), self.settings.max_sessions)
                return lease
        lease.close()
        places = f"all {self.settings.max_sessions} places of this server are taken"
        sentence = f"{places}: try again later, or start it with a higher --max-sessions"
        raise Refusal(503, sentence, {"Retry-After": str(SECONDS_TO_RETRY)})

    def get(self, token: str | None) -> Lease:
        """The place of a client, which is alive thereby.

        Raises:
            Refusal: 410, there is no such lease, or no longer.
        """
        lease = self.peek(token)
        lease.seen()
        return lease

    def peek(self, token: str | None) -> Lease:
        """As :meth:`get`, leaving all clocks as they are."""
        lease = self._held.get(token or "")
        if lease is None:
            raise gone()
        return lease

    def release(self, token: str | None) -> bool:
        """Give a place back; False where it was free already."""
        with self._lock:
            lease = self._held.pop(token or "", None)
        if lease is not None:
            lease.close()
        return lease is not None

    def sweep(self, needed: bool = False) -> None:
        """Free the places of clients that died, or that do nothing any more.

        Args:
            needed: those too of clients that send no heartbeats, and would not notice it.
        """
        now = time.monotonic()
        for lease in list(self._held.values()):
            silent = lease.heartbeats and now - lease.seen_at > self.settings.liveness_timeout
            idle = (lease.heartbeats or needed) and now - lease.active_at > self.settings.idle_timeout
            if (silent or idle) and not lease.waiting and self.release(lease.token):
                log.info("a place is free again: its client %s", "is silent" if silent else "does nothing")

    def remaining(self, lease: Lease) -> float:
        """Seconds until the place is free if the client does nothing."""
        return max(0.0, self.settings.idle_timeout - (time.monotonic() - lease.active_at))

    def close(self) -> None:
        """End all."""
        for token in list(self._held):
            self.release(token)
        self._background.shutdown(wait=False, cancel_futures=True)


def gone() -> Refusal:
    """What is answered to a client without a lease."""
    return Refusal(410, "there is no such lease, or no longer: claim a place again with POST /claim, and set the image")
