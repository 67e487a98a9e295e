# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The images and prompts of a configuration as the items of a data set."""

from __future__ import annotations

from typing import Any

from ..common.files import existing
from ..common.image_items import Given, check_names, image_items
from ..common.reading.volume import FORMATS


def list_items(image: Given, **prompts: Any) -> list[dict[str, Any]]:
    """One item for each image.

    Args:
        image: a path, or another form of :func:`..common.image_items.image_items`.
        prompts: see :func:`..common.prompts.read_prompts`.

    Raises:
        ValueError: no image, one that is not there, or two whose results would have the same name.
    """
    items = image_items(image, prompts, FORMATS)
    for item in items:
        existing(item["image"], FORMATS, folders=True)
    check_names(items)
    return items
