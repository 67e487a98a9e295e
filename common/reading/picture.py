# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Pictures read by Pillow: one page, whose size is known before its pixels are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from PIL import Image

from .options import BYTES_A_PIXEL, MAX_PIXELS, check_count

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
# Pillow's own limit of pixels is one for all threads.
_PILLOWS_LIMIT = Lock()


@contextmanager
def open_picture(path: str | Path, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """One picture, its pixels not read yet, whatever its size: the limit is ours, and can be raised.

    Raises:
        ValueError: more pixels than ``max_pixels``, or several pages.
    """
    with _PILLOWS_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            opened = Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with opened as image:
        check_count(path, image.size, max_pixels, "max_pixels", BYTES_A_PIXEL)
        frames = getattr(image, "n_frames", 1)
        if frames != 1:
            raise ValueError(f"{path}: {frames} pages; expected one: save the one to segment as its own file")
        yield image


def is_deep(image: Image.Image) -> bool:
    """Whether a file has 16 bits in each channel of a colour, which Pillow does not say and of which it keeps 8."""
    if image.mode not in ("RGB", "RGBA"):
        return False
    modes = (tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in image.tile)
    return any("16" in mode for mode in modes) or 16 in (getattr(image, "tag_v2", None) or {}).get(258, ())
