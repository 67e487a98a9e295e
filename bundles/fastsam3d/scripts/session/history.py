# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Steps of a session, each of which can be taken back and taken again."""

from __future__ import annotations

from typing import NamedTuple

from .packed import Difference
from .prompts import Said


class Step(NamedTuple):
    """A step: what was said before and after, which object was the current one, and what changed in the label map."""

    before: tuple[Said, ...]
    current_before: int
    after: tuple[Said, ...]
    current_after: int
    difference: Difference | None


def replaced(objects: tuple[Said, ...], said: Said) -> tuple[Said, ...]:
    """The objects, one of them as it is now."""
    return tuple(said if o.id == said.id else o for o in objects)


def removed(objects: tuple[Said, ...], said: Said) -> tuple[Said, ...]:
    """The objects without one of them."""
    return tuple(o for o in objects if o.id != said.id)
