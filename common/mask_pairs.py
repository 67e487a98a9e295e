# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Which mask belongs to which image, told by their file names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from .result_files import stem_of

# What data sets add to the name of an image for that of its mask.
SUFFIXES = ("", "_mask", "_masks", "_segmentation", "_seg", "_label", "_labels", "_gt")
SHOWN = 5


def by_stem(files: Iterable[Path], what: str) -> dict[str, Path]:
    """Files by their names without endings.

    Raises:
        ValueError: two of one name, of which one would be dropped; ``what`` they are.
    """
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(stem_of(file.name), []).append(file)
    twice = [" and ".join(f.name for f in same) for same in found.values() if len(same) > 1]
    if twice:
        folder = next(same[0].parent for same in found.values() if len(same) > 1)
        more = f" and {len(twice) - SHOWN} more" if twice[SHOWN:] else ""
        raise ValueError(
            f"{folder}: several {what} of one name: {'; '.join(twice[:SHOWN])}{more}; expected one each: which of them "
            "is meant is not guessed, so rename or remove the others"
        )
    return {stem: same[0] for stem, same in found.items()}


def mask_of(stem: str, masks: Mapping[str, Path], images: Collection[str]) -> Path | None:
    """The mask of an image, called as it or with one of the usual suffixes; None where there is none.

    Args:
        stem: the image's name without its ending.
        masks: see :func:`by_stem`.
        images: names of all images, each of which may have a mask of its very name.

    Raises:
        ValueError: several that could be it.
    """
    names = (stem + suffix for suffix in SUFFIXES)
    found = [masks[name] for name in names if name in masks and (name == stem or name not in images)]
    if len(found) > 1:
        raise ValueError(
            f"{found[0].parent}: several masks for {stem}: {', '.join(f.name for f in found)}; expected one: which is "
            "meant is not guessed, so rename or remove the others"
        )
    return found[0] if found else None
