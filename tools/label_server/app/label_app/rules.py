# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What the person who starts the server allows; the starting command and the server both read it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .common.access import Access
from .common.reading.options import Reading

VARIABLE = "SAM_BUNDLES_RULES"
# Set in the processes that the server starts.
TASK = "SAM_BUNDLES_TASK"


@dataclass(frozen=True)
class Rules(Access):
    """What the person who started the server allows.

    Attributes:
        folders: where links among the studies may lead to.
        series: by the name of a folder of DICOM files, which of its stacks is the image.
        irregular: see :class:`.common.reading.options.Reading`; of all folders.
        slice_thickness: likewise.
    """

    folders: Sequence[str] = ()
    series: Mapping[str, str] = field(default_factory=dict)
    irregular: str = "refuse"
    slice_thickness: float | None = None

    def reading(self, folder: Path) -> Reading:
        """How a folder of DICOM files is read.

        Raises:
            ValueError: see :class:`.common.reading.options.Reading`.
        """
        return Reading(self.series.get(folder.name), self.irregular, self.slice_thickness)

    def to_environment(self) -> dict[str, str]:
        """As variables for the server's process: other users of the computer see command lines, not these."""
        return {VARIABLE: json.dumps(vars(self))}

    @staticmethod
    def from_environment() -> Rules:
        """What :meth:`to_environment` wrote; the defaults where nothing is there."""
        return Rules(**json.loads(os.environ.get(VARIABLE, "{}")))
