# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Inference in a process of its own: what reads the files of others may die, and the server goes on.

The server writes a request as a line of JSON, the process answers with one. It keeps networks, volumes and embeddings;
where it ends, the next request starts another one.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import subprocess
import sys
from threading import Lock, Semaphore
from typing import Any

from .common.gate import Refusal

logger = logging.getLogger(__name__)
# Requests that may wait for their turn.
MOST_WAITING = 32


class Worker:
    """The process, started when it is first needed.

    Args:
        seconds: after which a request is given up and the process ended.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.turn = Lock()
        self.waiting = Semaphore(MOST_WAITING)
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start the process, if none is running."""
        if self.process is None or self.process.poll() is not None:
            command = [sys.executable, "-m", "label_app.worker"]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """``file`` and ``params`` of the mask.

        Raises:
            ValueError: the request or its image cannot be used, or the process died of it.
            Refusal: too many requests wait.
            RuntimeError: it failed for another reason.
        """
        if not self.waiting.acquire(blocking=False):
            raise Refusal(429, f"{MOST_WAITING} requests wait already: ask again in some seconds")
        try:
            with self.turn:
                self.start()
                answer = self.exchange(json.dumps(request).encode() + b"\n")
        finally:
            self.waiting.release()
        if "refused" in answer:
            raise ValueError(answer["refused"])
        if "failed" in answer:
            raise RuntimeError(answer["failed"])
        return answer

    def exchange(self, line: bytes) -> dict[str, Any]:
        """One answer for one line."""
        try:
            self.process.stdin.write(line)
            self.process.stdin.flush()
            ready, _, _ = select.select([self.process.stdout], [], [], self.seconds)
            answer = self.process.stdout.readline() if ready else None
        except BrokenPipeError:
            answer = b""
        if answer:
            return json.loads(answer)
        self.stop()
        if answer is None:
            return {"refused": f"no answer within {self.seconds:.0f} s, so it was given up: expected a smaller image"}
        return {"refused": cause_of_death(self.process.returncode)}


def cause_of_death(code: int) -> str:
    """The sentence for a process that ended in the middle of a request."""
    name = signal.Signals(-code).name if code < 0 else f"code {code}"
    if code == -signal.SIGKILL:
        return f"the process that computes was ended ({name}), most often as memory ran out: expected a smaller image"
    return f"the process that reads images died of this one ({name}): expected a whole file in its own format"


def main() -> None:
    """Answer until the server closes the line."""
    from monailabel.interfaces.exception import MONAILabelException
    from monailabel.interfaces.utils.app import app_instance

    # What libraries print goes to the log, and never between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.basicConfig(level=os.environ.get("SAM_BUNDLES_LOG", "WARNING"), stream=sys.stderr)
    app = app_instance()
    for line in sys.stdin:
        try:
            file, params = app.run_task(json.loads(line))
            answer = {"file": file, "params": params}
        except ValueError as error:
            answer = {"refused": str(error)}
        except MONAILabelException as error:
            answer = {"refused": error.msg}
        except Exception as error:
            logger.exception("a request failed")
            reason = (str(error).strip().splitlines() or ["no reason given"])[0][:300]
            answer = {"failed": f"{type(error).__name__}: {reason}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    # Ctrl-C is for the server, which closes the line.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main()
