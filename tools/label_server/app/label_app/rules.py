# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What the person who starts the server allows; the starting command and the server both read it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from .common.access import Access

VARIABLE = "SAM_BUNDLES_RULES"
# Set in the processes that the server starts.
TASK = "SAM_BUNDLES_TASK"


@dataclass(frozen=True)
class Rules(Access):
    """What the person who started the server allows.

    Attributes:
        folders: where links among the studies may lead to.
    """

    folders: Sequence[str] = ()

    def to_environment(self) -> dict[str, str]:
        """As variables for the server's process: other users of the computer see command lines, not these."""
        return {VARIABLE: json.dumps(vars(self))}

    @staticmethod
    def from_environment() -> Rules:
        """What :meth:`to_environment` wrote; the defaults where nothing is there."""
        return Rules(**json.loads(os.environ.get(VARIABLE, "{}")))
