# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Which of MONAI's resolvers is at work.

A component of a configuration is given its arguments alone; to see every id, also those that nobody asked for, it has
to look at who calls it. MONAI offers no other way.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from monai.bundle import ReferenceResolver


def resolver_that_calls() -> ReferenceResolver:
    """The resolver that builds the component from which this is called.

    Raises:
        RuntimeError: not called while a configuration is resolved.
    """
    resolver = next((resolver for resolver, _ in _calling()), None)
    if resolver is None:
        raise RuntimeError("called outside a configuration; expected to be the _target_ of one of its components")
    return resolver


def is_being_resolved(name: str) -> bool:
    """Whether the id, or a part of it, is what the calling resolver was asked for, itself or on the way to another."""
    resolver = resolver_that_calls()
    return any(r is resolver and at.split(r.sep)[0] == name for r, at in _calling())


def _calling() -> Iterator[tuple[ReferenceResolver, str]]:
    """The resolvers on the stack with the ids that they are at, the nearest first."""
    frame = sys._getframe()
    while frame := frame.f_back:
        resolver = frame.f_locals.get("self")
        if isinstance(resolver, ReferenceResolver) and isinstance(frame.f_locals.get("id"), str):
            yield resolver, frame.f_locals["id"]
