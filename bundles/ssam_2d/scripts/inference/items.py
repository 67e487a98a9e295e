# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The images and requests of a configuration as the items of a data set."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ..common.image_items import Given, check_names, image_items
from ..common.result_files import is_result
from ..image_files import DICOM, FORMATS, PICTURES, VOLUMES, check_file, is_dicom

logger = logging.getLogger(__name__)


def list_items(image: Given, **request: Any) -> list[dict[str, Any]]:
    """One item for each image.

    Args:
        image: a file, a folder of files, or another form of :func:`..common.image_items.image_items`.
        request: labels, prompts and adapter, see :class:`.request.ReadRequestd`.

    Raises:
        ValueError: no image, a folder without one, a file that is none, or two whose results would have the same name.
    """
    given = image_items(image, request, f"a file or a folder: {FORMATS}")
    items = [{**item, "image": str(file)} for item in given for file in files_of(item["image"])]
    for item in items:
        check_file(item["image"])
    check_names(items)
    return items


def files_of(path: str | Path) -> list[Path]:
    """The file, or the image files of a folder in the order of their names, without results of earlier runs.

    Raises:
        ValueError: a folder without an image.
    """
    place = Path(path).expanduser()
    if not place.is_dir():
        return [place]
    files = [f for f in sorted(place.iterdir()) if f.is_file() and not f.name.startswith(".")]
    images = [f for f in files if str(f).lower().endswith((*PICTURES, *DICOM, *VOLUMES)) or is_dicom(f)]
    results = [f for f in images if is_result(f)]
    others = [f for f in files if f not in images and f.suffix != ".json"]
    images = [f for f in images if f not in results]
    if not images:
        raise ValueError(
            f"{path}: none of the {len(files)} files in this folder is an image"
            + (f" ({len(results)} are results of earlier runs)" if results else "")
            + f"; expected {FORMATS}"
        )
    for left, what in ((results, "results of earlier runs"), (others, "no images")):
        if left:
            logger.warning("%s: %d files are %s and left out, such as %s", path, len(left), what, left[0].name)
    return images
