# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The project as a package: ``from sam_bundles import Session``, in its clone as after ``pip install``.

Installed, the bundle lies beside this file as ``sam_bundles.fastsam3d``, with its configurations and weights; in the
clone it lies in ``bundles``.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["Engine", "Session"]

SESSION = f"{__name__}.fastsam3d.scripts.session"
_root = Path(__file__).resolve().parents[1]
if (_root / "bundles" / "fastsam3d" / "configs").is_dir():
    # The clone: what is installed beside this file lies elsewhere in it.
    __path__ += [str(_root), str(_root / "bundles"), str(_root / "tools")]
    if any(Path(place).resolve() == _root for place in sys.path):
        # The name that all else in the clone has for it, so that it is imported once.
        SESSION = "bundles.fastsam3d.scripts.session"

# Before anything imports torch.
import_module(f"{__name__}.common.waiting").wait_briefly(os.environ)


def __getattr__(name: str) -> Any:
    # Torch and MONAI take seconds to import: whoever asks for help on a command need not wait for them.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(SESSION), name)
