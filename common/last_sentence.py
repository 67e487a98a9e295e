# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A run from the command line that fails ends with the sentence that says why: ``Error: ...``, exit code 1.

MONAI's parser and engine wrap what is raised within them, log it and print a traceback of a hundred lines; ``--debug``
keeps these. In other programs, servers and tests among them, exceptions stay as they are.
"""

from __future__ import annotations

import errno
import logging
import sys
import traceback
from types import TracebackType

REPORT = "this is not expected: please report it with the lines above"
WRAPPERS = ("monai.utils.module", "monai.bundle.", "monai.transforms.transform")
WORKER = "DataLoader worker"


def is_command_line() -> bool:
    """Whether the program is ``python -m monai.bundle``."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name == "monai.bundle.__main__"


def end_with_the_sentence() -> None:
    """From now on MONAI's command line ends a failed run with one sentence; other programs are left as they are."""
    if not is_command_line():
        return
    sys.excepthook = _print_sentence
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_news)


def sentence(error: BaseException) -> str | None:
    """What a user can do something about, as one text; None where the error says nothing to a user."""
    told = _told(error)
    if isinstance(told, OSError) and told.errno == errno.ENOSPC:
        return f"{told.filename or 'a result'}: the disk is full; expected room for it, or another folder"
    if isinstance(told, OSError) and told.strerror:
        return f"{told.filename}: {told.strerror}" if told.filename else told.strerror
    if isinstance(told, MemoryError) or type(told).__name__ == "OutOfMemoryError":
        return f"the memory is not enough ({str(told).splitlines()[0][:200] if str(told) else type(told).__name__})"
    if not isinstance(told, ValueError) or not str(told):
        return None
    if WORKER in str(told):
        # Raised again from the text of another process.
        return str(told).rpartition("ValueError: ")[2].strip()
    return str(told) if _is_ours(told) else None


def _print_sentence(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    from tqdm import tqdm

    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()
    sys.stdout.flush()
    said = sentence(error)
    if said is None:
        traceback.print_exception(kind, error, trace)
        said = f"{type(_told(error)).__name__}: {_told(error)}" + f" ({REPORT})" * isinstance(error, Exception)
    for line in said.splitlines():
        print(f"Error: {line}", file=sys.stderr)


def _told(error: BaseException) -> BaseException:
    """The exception that was raised first, below all that MONAI wrapped around it."""
    while error.__cause__ is not None and _module(error).startswith(WRAPPERS):
        error = error.__cause__
    return error


def _is_ours(error: BaseException) -> bool:
    return _module(error).split(".")[0] == __name__.split(".")[0]


def _module(error: BaseException) -> str:
    """Where it was raised."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return frames[-1][0].f_globals.get("__name__", "") if frames else ""


def _is_news(record: logging.LogRecord) -> bool:
    """False for what the engine logs of an exception that it raises again: its sentence follows."""
    return not (record.name.startswith("ignite.engine") and "due to exception" in record.getMessage())
