# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Files that appear whole or not at all, and checks of paths before any work."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = ".writing_"
# The disk, the quota or the size that the system allows a file.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Written to see whether there is room, where a library does not say why it failed.
PROBE = 1 << 20


@contextmanager
def whole_files(folder: str | Path) -> Iterator[Path]:
    """A side folder whose files move into ``folder`` at the end, replacing those of the same name.

    It lies in ``folder``, which is made where it does not exist: moving within a disk is a rename, so that a run that
    fails or is killed half-way leaves no half a result and takes no earlier one away.

    Raises:
        ValueError: no room for the files, or a folder that cannot be written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=folder, prefix=UNFINISHED)
    except OSError as error:
        problem = _full(folder) if error.errno in FULL else f"it cannot be written to ({_reason(error)}); give another"
        raise ValueError(f"{folder}: {problem}") from error
    with temporary as name:
        side = Path(name)
        try:
            yield side
            for file in sorted(side.iterdir()):
                os.replace(file, folder / file.name)
        except Exception as error:
            # Asked while the files still lie there: afterwards there is room again.
            full = _no_room(error, side)
            if not full:
                raise
            written = max(side.iterdir(), key=lambda file: file.stat().st_mtime_ns, default=side)
            raise ValueError(f"{folder / written.name if written != side else folder}: {full}") from error


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """:func:`whole_files` for one file: where to write it, until it moves to ``path``."""
    path = Path(path)
    with whole_files(path.parent) as side:
        yield side / path.name


def remove_unfinished(folder: Path) -> None:
    """Remove what killed runs left of :func:`whole_files`; for a folder that no other process writes to."""
    for side in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(side, ignore_errors=True)


def check_writable(folder: str | Path, name: str = "output_dir") -> None:
    """Raise a ValueError now for a folder that could not be written to after minutes of work.

    Args:
        folder: need not exist yet; nothing stays in it.
        name: of the option that gave it.
    """
    folder = Path(folder)
    check_path(folder, name)
    above = folder
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise ValueError(f"{name} {folder}: {above} is a file; expected a folder, or a path where one can be made")
    try:
        # Rights alone do not tell: a superuser has them all, and a full disk refuses nobody before the first byte.
        with tempfile.TemporaryFile(dir=above) as probe:
            probe.write(b"\0" * 4096)
    except OSError as error:
        problem = _full(above) if error.errno in FULL else f"{above} is not writable ({_reason(error)})"
        raise ValueError(f"{name} {folder}: {problem}; expected a folder that you may write to, with room") from error


def check_path(path: str | Path, name: str = "path", longest: str = "") -> None:
    """Raise a ValueError for a path that the file system would refuse later.

    Args:
        path: of a file or folder that need not exist.
        name: what it is, for the message.
        longest: the longest name of a file that will lie in it, a folder then.
    """
    path = Path(path)
    if "\0" in str(path / longest):
        raise ValueError(f"{name} {str(path / longest)!r}: holds a NUL character; expected a path without")
    try:
        encoded = [os.fsencode(part) for part in (*path.parts, longest)]
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} {str(path)!r}: characters that this system has no code for ({error}); expected others, or a "
            f"locale of UTF-8"
        ) from error
    above = path
    while not stands(above) and above != above.parent:
        above = above.parent
    part_limit, path_limit = _limits(above)
    part = max(encoded, key=len)
    if len(part) > part_limit:
        raise ValueError(
            f"{name} {str(path / longest)[:80]}...: the name {os.fsdecode(part)[:20]}... has {len(part)} bytes, a file "
            f"system takes {part_limit}; expected a shorter one"
        )
    whole = os.fsencode(path.absolute() / longest)
    if len(whole) >= path_limit:
        raise ValueError(f"{name} {str(path)[:80]}...: {len(whole)} bytes; expected a path of less than {path_limit}")


def existing(path: str | Path, expected: str, folders: bool = False) -> Path:
    """The path of a file that can be read without waiting.

    Args:
        path: as given; ``~`` is the home folder.
        expected: what the file has to be, for the message.
        folders: whether a folder may stand for it.

    Raises:
        ValueError: no such file, a path that no file can have, one that may not be read, or a device or pipe.
    """
    check_path(path, "file")
    try:
        path = Path(path).expanduser()
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "no such file or folder" if folders else "no such file"
        problem = f"a link to {os.readlink(path)}, which is not there" if path.is_symlink() else what
        raise ValueError(f"{path}: {problem}; expected {expected}") from error
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: cannot be read ({_reason(error)}); expected {expected}") from error
    if stat.S_ISDIR(mode) and not folders:
        raise ValueError(f"{path}: a folder; expected {expected}")
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise ValueError(f"{path}: a device or pipe, from which reading could wait for ever; expected {expected}")
    if not os.access(path, os.R_OK):
        raise ValueError(f"{path}: may not be read (permission denied); expected {expected}")
    return path


def _limits(folder: Path) -> tuple[int, int]:
    """Bytes of a name, and of a whole path."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX"), os.pathconf(folder, "PC_PATH_MAX")
    except (AttributeError, OSError, ValueError):
        return 255, 4096


def stands(path: Path) -> bool:
    """Whether there is such a file or folder; no for a path that none can have."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _no_room(error: BaseException, side: Path) -> str | None:
    """Why there was no room for the files in ``side``, None where ``error`` has another reason.

    Libraries that write in C++ say "unexpected pos" or give a line of their source: then the disk is asked.
    """
    seen = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, OSError) and cause.errno in FULL:
            return _full(side)
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, ValueError):
        return None
    largest = max((f.stat().st_size for f in side.iterdir() if f.is_file()), default=0)
    try:
        with tempfile.TemporaryFile(dir=side) as probe:
            # A limit of one file's size is met at its end only.
            probe.seek(largest)
            probe.write(b"\0" * PROBE)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as problem:
        return _full(side) if problem.errno in FULL else None
    return None


def _full(folder: Path) -> str:
    while not stands(folder):
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e6
    # Free space and no room: a quota, or a limit of the shell's.
    what = "the disk is full" if free < 1 else f"no room, though {free:,.0f} MB are free (a quota, or ulimit -f)"
    return f"{what}; nothing was written: make room, or give a folder on another disk"


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
