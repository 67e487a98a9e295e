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


def check_synonyms(synonyms: object, names: Sequence[str]) -> dict[str, list[str]]:
    """Other names of some of the labels, {label: [names]}. Raises ValueError for anything else."""
    if not isinstance(synonyms, Mapping) or not all(isinstance(v, (list, tuple)) for v in synonyms.values()):
        raise ValueError(f"synonyms {synonyms!r:.200}: expected {{label: [other names]}}")
    unknown = [name for name in synonyms if name not in names]
    if unknown:
        raise ValueError(f"synonyms of {', '.join(map(repr, unknown))}: expected labels out of {', '.join(names)}")
    return {name: checked(others) for name, others in synonyms.items()}


def matched(name: str, labels: Sequence[str], synonyms: Mapping[str, Sequence[str]] | None = None) -> str | None:
    """The label that ``name`` means; None where it means none of them, or several alike.

    The label itself comes first, then one that differs in case and blanks around it, then what :func:`plain` makes
    equal, synonyms included.
    """
    if name in labels:
        return name
    same = [label for label in labels if label.strip().casefold() == name.strip().casefold()]
    if not same:
        others = synonyms or {}
        same = [one for one in labels if plain(name) in {plain(v) for v in (one, *others.get(one, ()))}]
    return same[0] if len(same) == 1 else None


def plain(name: str) -> str:
    """Lower case, one blank for blanks, underscores and hyphens, the last word in the singular where it ends in s."""
    text = " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
    if text.endswith("ies") and len(text) > 4:
        return text[:-3] + "y"
    return text[:-1] if text.endswith("s") and not text.endswith(("ss", "us", "is")) else text
