# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What the person who starts the server chose."""

from __future__ import annotations

from dataclasses import dataclass

from sam_bundles.common.access import Access

from .orientation import ASSUMED


@dataclass(frozen=True)
class Settings(Access):
    """Who may talk to the server, how many at once, and how long a place is kept.

    Attributes:
        max_sessions: clients at once, each with one image in memory.
        idle_timeout: seconds without a call that does something, after which a place is free.
        liveness_timeout: seconds without any sign of the client, which sends heartbeats, after which it is.
        orientation: where the axes i, j, k of an image point whose client does not say, see :mod:`.orientation`.
        max_voxels: of an image.
    """

    max_sessions: int = 4
    idle_timeout: float = 600.0
    liveness_timeout: float = 60.0
    orientation: str = ASSUMED
    max_voxels: int = 1 << 30
