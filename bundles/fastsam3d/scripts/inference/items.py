# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The images and prompts of a configuration as the items of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def list_items(
    image: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] | None, **prompts: Any
) -> list[dict[str, Any]]:
    """One item for each image.

    Args:
        image: a path, or a list of paths that all get the same prompts, or of dictionaries with ``image`` and
            prompts of its own, or one such dictionary.
        prompts: see :func:`..common.prompts.read_prompts`.

    Raises:
        ValueError: no image, or two whose results would have the same name.
    """
    if not image:
        raise ValueError("no image was given: expected --image FILE, a NIfTI, NRRD or MetaImage file or DICOM folder")
    if not isinstance(image, (str, Path, Mapping, list, tuple)):
        raise ValueError(f"image is {image!r}: expected a path, a dictionary with the key image, or a list of these")
    images = list(image) if isinstance(image, (list, tuple)) else [image]
    items = [{**prompts, **i} if isinstance(i, Mapping) else {**prompts, "image": str(i)} for i in images]
    without = [c for c in items if not c.get("image")]
    if without:
        raise ValueError(f"{without[0]}: expected a dictionary with the key image")
    names = [case_name(c["image"]) for c in items]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"several images are named {', '.join(twice)}: their masks would overwrite each other")
    return items


def case_name(path: str) -> str:
    """The name of an image file or DICOM folder without its extension."""
    # Resolved, because "." and ".." have no name.
    name = Path(path).expanduser().resolve().name
    for extension in (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd"):
        if name.lower().endswith(extension):
            return name[: -len(extension)]
    return name
