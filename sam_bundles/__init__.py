# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The project as a package: ``from sam_bundles import Session``, in its clone as after ``pip install``.

Installed, the bundle lies beside this file as ``sam_bundles.fastsam3d``, with its configurations and weights; in the
clone it lies in ``bundles``.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["Engine", "Session"]

_root = Path(__file__).resolve().parents[1]
IN_CLONE = (_root / "bundles" / "fastsam3d" / "configs").is_dir()
SESSION = "bundles.fastsam3d.scripts.session" if IN_CLONE else f"{__name__}.fastsam3d.scripts.session"
if IN_CLONE:
    # What is installed beside this file lies elsewhere there: common in the root, the server in tools.
    __path__ += [str(_root), str(_root / "tools")]


def __getattr__(name: str) -> Any:
    # Torch and MONAI take seconds to import: whoever asks for help on a command need not wait for them.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(SESSION), name)
