# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Label names from a file, with their text features or without."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from common.json_files import read_json
from common.label_names import checked

FEATURES = 'JSON, each name with its text features: {"liver": [0.1, ...]}'
NAMES = 'JSON, the names of the labels in their order: ["liver", ...]'


def read_labels(path: Path | None) -> dict[str, Tensor]:
    """``{"liver": [0.1, ...], ...}`` in a JSON file: each name with its text features; empty without a file.

    Raises:
        ValueError: no such file, or one of another form.
    """
    if path is None:
        return {}
    content = read_json(path, FEATURES)
    try:
        return {str(name): torch.tensor(values, dtype=torch.float32) for name, values in content.items()}
    except (ValueError, TypeError, AttributeError) as problem:
        raise ValueError(f"labels {path}: {problem}; expected {FEATURES}") from problem


def read_names(path: Path | None) -> list[str]:
    """``["liver", ...]`` in a JSON file, as earlier trainings wrote them beside their weights.

    Raises:
        ValueError: no file, or one of another form.
    """
    if path is None:
        raise ValueError(f"no names were given: give --labels FILE, {NAMES}")
    content = read_json(path, NAMES)
    try:
        return checked(content)
    except ValueError as problem:
        raise ValueError(f"labels {path}: {problem}; expected {NAMES}") from problem
