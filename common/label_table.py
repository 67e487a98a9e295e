# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What the values or colours of masks are called, in the forms that data sets use."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

logger = logging.getLogger(__name__)
FORM = (
    'for values {"1": "gland"}, or {"background": 0, "gland": 1} as nnU-Net has it, and for colours '
    '{"polyp": [200, 0, 200]}'
)
BACKGROUND = "background"
# What editors write for "inside" in masks of one label.
INSIDE = (1, 255, 65535)
# Of a value from a whole number.
NEAR = 1e-5

# {value: name} of an index mask or {name: (r, g, b)} of a coloured one; empty where each label has its own file.
LabelNames = dict[int, str] | dict[str, tuple[int, int, int]]


def read_label_names(given: Any, where: str) -> LabelNames:
    """``{value: name}`` or ``{name: (r, g, b)}``, without the background: value 0, or black.

    Args:
        given: ``{"1": NAME}``, ``{NAME: 1}`` or ``{NAME: [r, g, b]}``.
        where: it was said, for messages.

    Raises:
        ValueError: another form, or a name, value or colour that comes twice.
    """
    if not isinstance(given, Mapping) or not given:
        raise ValueError(f"{where}: holds {given!r}; expected {FORM}")
    if any(isinstance(value, (list, tuple)) for value in given.values()):
        return _colours(given, where)
    by_name = not any(isinstance(value, str) or _whole(value) is None for value in given.values())
    names: dict[int, str] = {}
    for key, value in given.items():
        number, name = (_whole(value), key) if by_name else (_whole(key), value)
        if number is None or not isinstance(name, str) or not name.strip():
            raise ValueError(f"{where}: {key!r}: {value!r}; expected {FORM}, all of one kind")
        if number == 0:
            _note_background(name, "value 0", where)
            continue
        if number in names or name in names.values():
            what = f"value {number}" if number in names else f"name {name!r}"
            raise ValueError(f"{where}: the {what} comes twice; expected every one once")
        names[number] = name
    return names


def names_of_values(names: Mapping[int, str], values: Sequence[int]) -> dict[int, str]:
    """The names of the values of a mask: where one label alone is known, a mask of 0 and 1 and one of 0 and 255 agree.

    Args:
        names: see :func:`read_label_names`.
        values: of the mask, without 0.
    """
    if len(names) == len(values) == 1 and {*names, *values} <= {*INSIDE}:
        return {values[0]: next(iter(names.values()))}
    return dict(names)


def _colours(given: Mapping[str, Any], where: str) -> dict[str, tuple[int, int, int]]:
    colours: dict[str, tuple[int, int, int]] = {}
    for name, value in given.items():
        if not isinstance(value, (list, tuple)) or len(value) != 3 or not all(_byte(v) for v in value):
            regions = "; regions of several values cannot be read: name the values" if isinstance(value, list) else ""
            raise ValueError(f"{where}: {name!r}: {value!r}; expected {FORM}, all of one kind{regions}")
        colour = tuple(int(v) for v in value)
        if not any(colour):
            _note_background(name, "black", where)
            continue
        if colour in colours.values():
            raise ValueError(f"{where}: the colour {list(colour)} comes twice; expected every one once")
        colours[name] = colour
    return colours


def _note_background(name: str, what: str, where: str) -> None:
    if name.strip().casefold() != BACKGROUND:
        logger.warning("%s: %s is the background; %r is not a label", where, what, name)


def _byte(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 256


def _whole(value: Any) -> int | None:
    """A whole number that is not negative, of a number or of its digits; None of anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
        return round(number) if 0 <= number < 2**31 and abs(number - round(number)) <= NEAR else None
    except ValueError:
        return None
