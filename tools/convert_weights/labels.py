# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Label names with their text features, from a file."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor


def read_labels(path: Path | None) -> dict[str, Tensor]:
    """``{"liver": [0.1, ...], ...}`` in a JSON file: each name with its text features; empty without a file.

    Raises:
        ValueError: no such file, or one of another form.
    """
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text())
        return {str(name): torch.tensor(values, dtype=torch.float32) for name, values in content.items()}
    except (OSError, ValueError, TypeError, AttributeError) as problem:
        raise ValueError(
            f'labels {path}: {problem}; expected JSON, each name with its text features: {{"liver": [0.1, ...]}}'
        ) from problem
