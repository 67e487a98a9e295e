# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The images and requests of a configuration as the items of a data set."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..image_files import DICOM, FORMATS, PICTURES, VOLUMES, check_file, is_dicom

logger = logging.getLogger(__name__)


def list_cases(
    image: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] | None, **request: Any
) -> list[dict[str, Any]]:
    """One item for each image.

    Args:
        image: a file, a folder of files, or a list of these that all get the same request, or of dictionaries with
            ``image`` and a request of its own, or one such dictionary.
        request: labels, prompts and adapter, see :class:`.requests.ReadRequestd`.

    Raises:
        ValueError: no image, a folder without one, a file that is none, or two whose results would have the same name.
    """
    if not image:
        raise ValueError(f"no image was given: expected --image with a file or a folder: {FORMATS}")
    if not isinstance(image, (str, Path, Mapping, list, tuple)):
        raise ValueError(f"image is {image!r}: expected a path, a dictionary with the key image, or a list of these")
    images = list(image) if isinstance(image, (list, tuple)) else [image]
    cases = [{**request, **(i if isinstance(i, Mapping) else {"image": str(i)})} for i in images]
    without = [c for c in cases if not c.get("image")]
    if without:
        raise ValueError(f"{without[0]}: expected a dictionary with the key image")
    cases = [{**case, "image": str(file)} for case in cases for file in files_of(case["image"])]
    for case in cases:
        check_file(case["image"])
    names = [case_name(c["image"]) for c in cases]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"several images are named {', '.join(twice)}: their results would overwrite each other")
    return cases


def files_of(path: str | Path) -> list[Path]:
    """The file, or the image files of a folder in the order of their names.

    Raises:
        ValueError: a folder without an image.
    """
    place = Path(path).expanduser()
    if not place.is_dir():
        return [place]
    files = [f for f in sorted(place.iterdir()) if f.is_file() and not f.name.startswith(".")]
    images = [f for f in files if str(f).lower().endswith((*PICTURES, *DICOM, *VOLUMES)) or is_dicom(f)]
    if not images:
        raise ValueError(f"{path}: none of the {len(files)} files in this folder is an image; expected {FORMATS}")
    if len(images) < len(files):
        others = [f.name for f in files if f not in images]
        logger.warning("%s: %d files are no images and left out, such as %s", path, len(others), others[0])
    return images


def case_name(path: str | Path) -> str:
    """The name of an image file without its extension."""
    name = Path(path).expanduser().resolve().name
    for extension in (*VOLUMES, *PICTURES, *DICOM):
        if name.lower().endswith(extension):
            return name[: -len(extension)]
    return name
