# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Switches of a configuration. A command line gives them as words: ``--overlay false``."""

from __future__ import annotations


def flag(name: str, value: bool | str) -> bool:
    """True or false, however it is written.

    Raises:
        ValueError: neither; ``name`` says what it is of.
    """
    known = {"true": True, "false": False}
    word = str(value).strip().lower()
    if word not in known:
        raise ValueError(f"{name} {value!r}: expected true or false")
    return known[word]
