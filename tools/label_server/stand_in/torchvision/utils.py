# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Two functions that MONAI Label imports and our bundles never call."""

from __future__ import annotations

from typing import Any


def make_grid(*args: Any, **kwargs: Any) -> Any:
    """Says what is missing.

    Raises:
        ImportError: always.
    """
    raise ImportError("torchvision cannot be imported here, and this picture needs it: install one that fits torch")


def save_image(*args: Any, **kwargs: Any) -> None:
    """Says what is missing.

    Raises:
        ImportError: always.
    """
    make_grid()
