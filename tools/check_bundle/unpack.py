# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A bundle's zip or folder as a folder of its own, that checks may write into."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path, PurePosixPath


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
    try:
        with zipfile.ZipFile(bundle) as archive:
            top = _top_folder(bundle, archive)
            broken = archive.testzip()
            if broken:
                raise ValueError(f"{bundle}: {broken} in it is damaged; pack or download it anew")
            archive.extractall(folder)
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{bundle}: no whole zip file ({error}); pack or download it anew") from error
    return folder / top


def _top_folder(bundle: Path, archive: zipfile.ZipFile) -> str:
    names = archive.namelist()
    unsafe = [n for n in names if n.startswith("/") or "\\" in n or ".." in PurePosixPath(n).parts]
    if unsafe:
        raise ValueError(f"{bundle}: {unsafe[0]!r} would be written outside the target folder; do not unpack this file")
    # The upper half of the attributes is the mode on Unix, where 0o120000 is a link.
    links = [i.filename for i in archive.infolist() if (i.external_attr >> 16) & 0o170000 == 0o120000]
    if links:
        raise ValueError(f"{bundle}: {links[0]} is a link, which monai.bundle refuses; pack what it leads to")
    tops = {PurePosixPath(n).parts[0] for n in names}
    if len(tops) != 1:
        raise ValueError(f"{bundle}: the top folders {sorted(tops)[:5]}; expected one, named as the bundle")
    if len(set(names)) != len(names):
        raise ValueError(f"{bundle}: a file is in it more than once; pack it anew")
    return tops.pop()
