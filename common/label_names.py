# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Label names inside a state dict, so that they go wherever the weights go.

They are a tensor of bytes: JSON text, a list of names. ``torch.load(weights_only=True)`` and every loader of state
dicts take it as they take any other tensor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

KEY = "label_names"


def to_tensor(names: Sequence[str]) -> Tensor:
    """(bytes,) uint8."""
    text = json.dumps(list(names), ensure_ascii=False)
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def from_tensor(text: Tensor) -> list[str]:
    """The names that :func:`to_tensor` wrote.

    Raises:
        ValueError: a tensor that holds something else.
    """
    try:
        return checked(json.loads(bytes(text.tolist())))
    except (ValueError, TypeError) as problem:
        raise ValueError(f"the tensor {KEY} holds no names ({problem}); expected the bytes of a JSON list") from problem


def names_in(state: Mapping[str, Tensor]) -> list[str] | None:
    """The names in a state dict; None where it holds none. Raises ValueError as :func:`from_tensor` does."""
    return from_tensor(state[KEY]) if KEY in state else None


def checked(names: object) -> list[str]:
    """A list of different names. Raises ValueError for anything else."""
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(f"{names!r:.200}: expected a list of names")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"the names {', '.join(map(repr, twice))} come more than once; expected every name once")
    return list(names)
