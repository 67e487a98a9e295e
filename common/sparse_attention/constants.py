# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.
"""A cache for index tensors and masks that depend on shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps

import torch

# A recorded CUDA graph reads its constants where they lay while it was recorded, for as long as it is replayed.
_recorded: list = []


def constant(build: Callable) -> Callable:
    """Keep what `build` returns for its last 64 sets of arguments; the result must not be changed in place."""

    @lru_cache(maxsize=64)
    def cached(*args):
        # A tensor born in inference mode could not be used in training later.
        with torch.inference_mode(False):
            return build(*args)

    @wraps(build)
    def wrapper(*args):
        # While a graph is traced the tensors are stand-ins of that trace and must not outlive it.
        if torch.compiler.is_compiling():
            return build(*args)
        kept = cached(*args)
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            if not any(kept is known for known in _recorded):
                _recorded.append(kept)
        return kept

    return wrapper
