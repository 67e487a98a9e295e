# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Whether a file has changed since it was read, and errors of reading libraries as sentences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Files that name others for their voxels.
DETACHED = (".mhd", ".nhdr", ".hdr")


def file_version(place: Path) -> tuple:
    """A value that changes when the content of a file, or of any file of a series, may have changed."""
    if place.is_dir():
        files = sorted(place.rglob("*"))
    else:
        # The voxels of a detached header lie in a file beside it, under a name of their own.
        files = sorted(place.parent.iterdir()) if place.suffix.lower() in DETACHED else [place]
    stats = ((str(f), f.stat() if f.exists() else f.lstat()) for f in files)
    return tuple((f, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for f, s in stats)


@contextmanager
def readable(path: str | Path, expected: str) -> Iterator[None]:
    """Any error of a reading library as a ValueError that names the file; ours as they are."""
    try:
        yield
    except MemoryError as error:
        raise ValueError(
            f"{path}: not enough memory to read it; expected a smaller image, or a larger machine"
        ) from error
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise ValueError(f"{path}: cannot be read ({lines[-1][:200]}); expected {expected}") from error
