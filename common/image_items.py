# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The images of one call, in all forms in which they may be given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .result_files import case_name

Given = str | Path | Mapping[str, Any] | Sequence[str | Path | Mapping[str, Any]] | None


def image_items(image: Given, request: Mapping[str, Any], expected: str) -> list[dict[str, Any]]:
    """One item for each image that was named: ``image``, its path, and its request; none for None, as on a server.

    Args:
        image: a path, or a list of paths that all get the same request, or of dictionaries with ``image`` and a
            request of its own, or one such dictionary.
        request: for images without one of their own.
        expected: what an image may be, for the message.

    Raises:
        ValueError: an empty name or list, or another form.
    """
    if image is None:
        return []
    if not image:
        raise ValueError(f"no image was given: expected --image with {expected}")
    if not isinstance(image, (str, Path, Mapping, list, tuple)):
        raise ValueError(f"image is {image!r}: expected a path, a dictionary with the key image, or a list of these")
    images = list(image) if isinstance(image, (list, tuple)) else [image]
    items = [{**request, **(given if isinstance(given, Mapping) else {"image": given})} for given in images]
    for item in items:
        if not isinstance(item.get("image"), (str, Path)) or not str(item["image"]):
            raise ValueError(f"image is {item.get('image')!r}: expected a path, or a dictionary with the key image")
    return [{**item, "image": str(item["image"])} for item in items]


def check_names(items: Sequence[Mapping[str, Any]]) -> None:
    """Raise a ValueError where the results of two images would have the same name."""
    names = [case_name(item["image"]) for item in items]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        files = [item["image"] for item, name in zip(items, names, strict=True) if name == twice[0]]
        raise ValueError(
            f"several images are named {', '.join(twice)} ({', '.join(files[:3])}): their results would overwrite each "
            "other; expected names that differ, or one image at a time with an output_dir of its own"
        )
