# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""One image, its objects, their prompts, undo: the one stateful thing. Server, page and notebook sit on it."""

from .engine import Engine
from .session import Session

__all__ = ["Engine", "Session"]
