# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The outcome of an odd input, in one of seven classes, five of them bad."""

from __future__ import annotations

import json
import multiprocessing
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import FrameType

from odd_input import OddInput, Wrong

ROOT = Path(__file__).resolve().parents[2]
# Inputs take less than a second each; a command starts for ten.
SECONDS, COMMAND_SECONDS = 60, 180
# A process of its own may take as much memory on top of what it begins with.
SPARE_BYTES = 4 << 30

# What only a person who reads our code understands.
RIDDLES = (
    r"Traceback|object has no attribute|unsupported operand|not subscriptable|not iterable|invalid literal|out of range"
    r"|could not broadcast|np\.\w+\(|enforce fail|unexpected pos|positional argument|unexpected keyword|NoneType"
    r"|<class '| at 0x[0-9a-f]{6}|\.[ch]xx\b|size mismatch|_target_|ConfigExpression|can't multiply|cannot unpack"
)
REMEDIES = (
    r"expected|\b(give|use|write|save|choose|convert|must|allowed|at most|at least|did you mean|rename|install|free|"
    r"shorten|raise|lower|delete|remove|read|name|move|take|pass|copy|export|split|needs?|only|instead|check)\b|--\w"
)
LONGEST = 3000


class Verdict(Enum):
    """The class of one outcome."""

    RIGHT = "right"
    REFUSED = "refused with a sentence"
    WRONG = "silently wrong"
    VAIN = "refused, should work"
    CRASH = "crash"
    HANG = "hang"
    UNCLEAR = "unclear"

    @property
    def good(self) -> bool:
        """Whether a user is served well."""
        return self in (Verdict.RIGHT, Verdict.REFUSED)


Outcome = tuple[Verdict, str]


def judge(odd: OddInput, out: Path, run: Callable[[OddInput, Path], None]) -> Outcome:
    """The class of what ``run(odd, out)`` does, with a sentence that says why."""
    if odd.command:
        return _judge_command(odd, out)
    if odd.apart:
        return _judge_apart(odd, out, run)
    return _judge_here(odd, out, run)


def _judge_here(odd: OddInput, out: Path, run: Callable[[OddInput, Path], None]) -> Outcome:
    try:
        with _alarm(SECONDS):
            run(odd, out)
    except _TooLong:
        return Verdict.HANG, f"not done after {SECONDS} seconds"
    except Exception as error:
        return _judge_error(error, odd, out)
    except SystemExit as stop:
        return _judge_words(str(stop), odd, out) if str(stop) not in ("0", "None") else _judge_result(odd, out)
    return _judge_result(odd, out)


def _judge_apart(odd: OddInput, out: Path, run: Callable[[OddInput, Path], None]) -> Outcome:
    """In a fork: a signal that ends it, or memory without end, is an answer too."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def child() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES, used + SPARE_BYTES))
        theirs.send(_judge_here(odd, out, run))

    process = context.Process(target=child)
    process.start()
    theirs.close()
    try:
        # Twice the time: the child's own alarm comes first, unless it never returns to Python.
        if not ours.poll(2 * SECONDS):
            return Verdict.HANG, f"not even interrupted after {2 * SECONDS} seconds"
        return ours.recv()
    except EOFError:
        process.join(SECONDS)
        return Verdict.CRASH, f"the process ended with {process.exitcode}"
    finally:
        process.kill()
        process.join()
        ours.close()


def _judge_command(odd: OddInput, out: Path) -> Outcome:
    """What a terminal shows: the sentence that explains stands last."""
    bundle = ROOT / "bundles" / odd.run
    command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(bundle)]
    command += ["--config_file", str(bundle / "configs" / "inference.json")]
    for key, value in {"output_dir": str(out), **odd.options}.items():
        command += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    try:
        done = subprocess.run(
            command, cwd=odd.folder, capture_output=True, text=True, errors="replace", timeout=COMMAND_SECONDS
        )
    except subprocess.TimeoutExpired:
        return Verdict.HANG, f"not done after {COMMAND_SECONDS} seconds"
    if done.returncode < 0:
        return Verdict.CRASH, f"the process ended with {done.returncode}"
    if done.returncode == 0:
        return _judge_result(odd, out)
    last = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.strip()][-1]
    kind, _, words = last.partition(": ")
    if not kind.endswith("ValueError"):
        words = last
    return _judge_words(words, odd, out)


def _judge_error(error: BaseException, odd: OddInput, out: Path) -> Outcome:
    shown = f"{type(error).__name__}: {error}"
    # MONAI's parser wraps what a configuration's expressions raise.
    while not isinstance(error, ValueError) and str(error).startswith("Failed to") and error.__cause__ is not None:
        error = error.__cause__
    if not isinstance(error, ValueError):
        return Verdict.CRASH, f"{type(error).__name__}: {error}"[:600] if str(error) else shown[:600]
    return _judge_words(str(error), odd, out)


def _judge_words(words: str, odd: OddInput, out: Path) -> Outcome:
    short = words if len(words) <= 600 else words[:600] + " ..."
    left = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()) if out.is_dir() else []
    riddle = re.search(RIDDLES, words)
    if riddle:
        return Verdict.UNCLEAR, f"says {riddle.group()!r}: {short}"
    if re.search(r"(\(\d[\d, ]*\))[^()]* \1", words):
        return Verdict.UNCLEAR, f"two equal sizes are called different: {short}"
    if len(words) > LONGEST:
        return Verdict.UNCLEAR, f"{len(words)} letters: {short}"
    if not re.search(odd.names, words, re.IGNORECASE):
        return Verdict.UNCLEAR, f"does not name {odd.names!r}: {short}"
    if not re.search(REMEDIES, words, re.IGNORECASE):
        return Verdict.UNCLEAR, f"no remedy: {short}"
    if left:
        return Verdict.UNCLEAR, f"left behind {', '.join(left[:4])}: {short}"
    return (Verdict.VAIN if odd.expect == "right" else Verdict.REFUSED), short


def _judge_result(odd: OddInput, out: Path) -> Outcome:
    if odd.expect == "refused":
        return Verdict.WRONG, "accepted"
    try:
        if odd.check is not None:
            odd.check(out)
    except Wrong as wrong:
        return Verdict.WRONG, str(wrong)
    return Verdict.RIGHT, ""


class _TooLong(BaseException):
    """Nothing that a program catches with Exception."""


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
