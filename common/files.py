# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_files(folder: Path) -> Iterator[Path]:
    """A side folder whose files move into ``folder`` at the end, replacing those of the same name.

    It lies in ``folder``, which is made where it does not exist: moving within a disk is a rename, so that a run that
    fails or is killed half-way leaves no half a result and takes no earlier one away.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing_") as temporary:
        side = Path(temporary)
        yield side
        for file in sorted(side.iterdir()):
            os.replace(file, folder / file.name)


def check_writable(folder: Path) -> None:
    """Raise a ValueError now for a folder that could not be written to after minutes of work."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise ValueError(
            f"output_dir {folder}: {existing} is a file; expected a folder, or a path where one can be made"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"output_dir {folder}: {existing} is not writable; expected a folder that you may write to")
