# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The images of a folder, by a pattern of their paths."""

from __future__ import annotations

from pathlib import Path

from sam_bundles.common.reading.dicom_tags import SUFFIXES as DICOM
from sam_bundles.common.reading.picture import SUFFIXES as PICTURES
from sam_bundles.common.reading.volume import is_volume
from sam_bundles.common.result_files import is_result, stem_of

from .rows import Row


def images_in(folder: Path, pattern: str | None, output: Path) -> list[Row]:
    """One row for each image, named by its path in the folder without the ending.

    Args:
        folder: with the folders in it.
        pattern: of paths below it, such as ``*/t1.nii.gz``; None for all image files.
        output: of this run, which may lie in the folder, and is left out; so are results of other runs.

    Raises:
        ValueError: no image.
    """
    try:
        found = sorted(folder.glob(pattern or "**/*"))
    except (ValueError, NotImplementedError) as error:
        raise ValueError(f"--pattern {pattern!r}: {error}; expected one such as '*/t1.nii.gz'") from error
    output = output.resolve()
    files = [f for f in found if not _hidden(f, folder) and output not in f.resolve().parents]
    if pattern is None:
        files = [f for f in files if f.is_file() and (is_volume(f) or f.suffix.lower() in (*PICTURES, *DICOM))]
    images = [f for f in files if not (f.is_file() and is_result(f))]
    if not images:
        raise ValueError(
            f"{folder}: none of {len(found)} paths is an image ({len(files) - len(images)} are results); expected "
            f"images, another --pattern, or --dicom_tree for a tree of DICOM series"
        )
    names = [_name(f.relative_to(folder)) for f in images]
    # x.png and x.jpg beside each other.
    twice = {name for name in names if names.count(name) > 1}
    names = [f.relative_to(folder).as_posix() if n in twice else n for f, n in zip(images, names, strict=True)]
    return [
        Row(f.relative_to(folder).as_posix(), {"image": str(f), "name": n}) for f, n in zip(images, names, strict=True)
    ]


def _name(path: Path) -> str:
    return (path.parent / stem_of(path.name)).as_posix()


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)
