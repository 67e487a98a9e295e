# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A bundle's zip or folder, copied to a folder that checks may write into."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path, PurePosixPath

NOT_WHOLE = "no whole zip file ({}); pack or download it anew"
CHUNK = 1 << 20


def unpack(bundle: Path, folder: Path) -> Path:
    """The bundle's files as they are distributed, under ``folder / NAME``.

    Args:
        bundle: ``NAME_vVERSION.zip``, or a bundle's folder (links in it are followed).
        folder: an empty one.

    Raises:
        ValueError: nothing there, a broken zip, files outside its one top folder, links in it, or a file twice.
    """
    if bundle.is_dir():
        target = folder / bundle.resolve().name
        shutil.copytree(bundle, target, ignore=shutil.ignore_patterns("__pycache__"))
        return target
    if not bundle.is_file():
        raise ValueError(f"{bundle}: no such file; expected a bundle's folder or its zip, NAME_vVERSION.zip")
    with _opened(bundle) as archive:
        top = _top_folder(bundle, archive)
        _read_all(bundle, archive)
        archive.extractall(folder)
    return folder / top


def _opened(bundle: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(bundle)
    except Exception as error:
        raise ValueError(f"{bundle}: {NOT_WHOLE.format(_reason(error))}") from error


def _read_all(bundle: Path, archive: zipfile.ZipFile) -> None:
    """Reads every file to its end: what a garbled zip raises then depends on the byte, and may be anything."""
    for info in archive.infolist():
        try:
            with archive.open(info) as file:
                while file.read(CHUNK):
                    pass
        except Exception as error:
            raise ValueError(f"{bundle}: {info.filename!r} in it: {NOT_WHOLE.format(_reason(error))}") from error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _top_folder(bundle: Path, archive: zipfile.ZipFile) -> str:
    names = archive.namelist()
    unsafe = [n for n in names if n.startswith("/") or "\\" in n or ".." in PurePosixPath(n).parts]
    if unsafe:
        raise ValueError(f"{bundle}: {unsafe[0]!r} would be written outside the target folder; do not unpack this file")
    # The upper half of the attributes is the mode on Unix, where 0o120000 is a link.
    links = [i.filename for i in archive.infolist() if (i.external_attr >> 16) & 0o170000 == 0o120000]
    if links:
        raise ValueError(f"{bundle}: {links[0]} is a link, which monai.bundle refuses; pack what it leads to")
    tops = {n.partition("/")[0] for n in names}
    if len(tops) != 1:
        raise ValueError(f"{bundle}: the top folders {sorted(tops)[:5]}; expected one, named as the bundle")
    if len(set(names)) != len(names):
        raise ValueError(f"{bundle}: a file is in it more than once; pack it anew")
    return tops.pop()
