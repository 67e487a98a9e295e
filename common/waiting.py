# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""How long a thread of PyTorch spins while it waits for another one."""

from __future__ import annotations

from collections.abc import MutableMapping

VARIABLE = "GOMP_SPINCOUNT"
SPINS = "1000"


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Let threads spin for microseconds and then sleep, unless the user has said how they wait.

    GNU's OpenMP, which PyTorch uses on Linux, spins for milliseconds. Where a viewer, or another program, keeps a
    core busy, the spinning threads take the time that the computing ones need, and a click takes several times as
    long. It reads the variable when it is loaded: call this before the first import of torch.

    Args:
        environment: ``os.environ``, or the variables of a process to be started; changed in place.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault(VARIABLE, SPINS)
