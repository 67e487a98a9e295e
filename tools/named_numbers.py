# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Options of the form ``NAME=NUMBER``."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence


def named_numbers(option: str, texts: Sequence[str], form: str, names: Collection[str]) -> dict[str, float]:
    """Positive numbers by name.

    Args:
        option: of the command line, for the message.
        texts: what was given, each ``NAME=NUMBER``.
        form: how the message calls that, such as ``METHOD=RATE``.
        names: that there are.

    Raises:
        ValueError: another name, or no positive number.
    """
    numbers = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            sound = name in names and 0 < float(number) < math.inf
        except ValueError:
            sound = False
        if not sound:
            raise ValueError(f"{option} {text}: expected {form}, a positive number for one of {', '.join(names)}")
        numbers[name] = float(number)
    return numbers
