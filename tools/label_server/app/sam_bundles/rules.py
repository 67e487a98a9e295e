# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What the person who starts the server allows; the starting command and the server both read it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

VARIABLE = "SAM_BUNDLES_RULES"
# Set in the processes that the server starts.
TASK = "SAM_BUNDLES_TASK"
LOCAL = ("127.0.0.1", "localhost", "[::1]")
DEFAULT_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Rules:
    """What the person who started the server allows.

    Attributes:
        hosts: names by which clients may call the server, without the port.
        origins: web pages of other origins that may talk to it, such as ``https://viewer.example.org``.
        token: the key that each request has to carry; empty for none.
        max_bytes: of one request.
        folders: where links among the studies may lead to.
    """

    hosts: Sequence[str] = LOCAL
    origins: Sequence[str] = ()
    token: str = field(default="", repr=False)
    max_bytes: int = DEFAULT_BYTES
    folders: Sequence[str] = ()

    def to_environment(self) -> dict[str, str]:
        """As variables for the server's process: other users of the computer see command lines, not these."""
        return {VARIABLE: json.dumps(vars(self))}

    @staticmethod
    def from_environment() -> Rules:
        """What :meth:`to_environment` wrote; the defaults where nothing is there."""
        return Rules(**json.loads(os.environ.get(VARIABLE, "{}")))
