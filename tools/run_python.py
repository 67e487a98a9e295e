# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A Python command, shown and run as a user would run it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence


def run_python(arguments: Sequence[str]) -> None:
    """Run Python with these arguments, say so, and show what it shows.

    Raises:
        ValueError: with the command's own reason, where it stopped.
    """
    print("$ python " + shlex.join(arguments), flush=True)
    process = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE)
    said = b""
    while chunk := process.stderr.read1(1 << 16):
        sys.stderr.buffer.write(chunk)
        sys.stderr.flush()
        said += chunk
    if process.wait():
        # MONAI's own last lines name the step that failed; the reason stands above them.
        reasons = [line for line in said.decode(errors="replace").splitlines() if line.startswith("ValueError: ")]
        raise ValueError(reasons[-1].removeprefix("ValueError: ") if reasons else f"exit code {process.returncode}")
