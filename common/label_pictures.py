# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Masks that are pictures: which numbers or colours they hold, and what these mean.

Training, evaluation and the preparation of data read masks here, so that what one accepts the others do.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .label_table import INSIDE
from .reading.options import MAX_PIXELS
from .reading.picture import is_deep, open_picture

# Formats that change pixels a little.
LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP")
# Modes that hold one number for each pixel.
NUMBERS = ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
# Of a label from a whole number, after a scaling.
NEAR = 1e-3
SHOWN = 6


@dataclass(frozen=True)
class LabelPicture:
    """The pixels of a mask.

    Attributes:
        path: of the file, for messages.
        numbers: (H, W); None where the channels differ, so that there are colours alone.
        colours: (H, W, 3) uint8; None of numbers beyond 8 bits.
        palette: whether the numbers are those of a palette's entries.
        lossy: whether the format changes pixels.
    """

    path: Path
    numbers: np.ndarray | None
    colours: np.ndarray | None
    palette: bool = False
    lossy: bool = False


def read_label_picture(path: str | Path, max_pixels: int = MAX_PIXELS) -> LabelPicture:
    """The pixels of a mask; a transparent one is background.

    Raises:
        ValueError: unreadable, too large, several pages, 16 bits a channel, or transparency that could mean more than
            one thing.
    """
    path = Path(path)
    try:
        with open_picture(path, max_pixels) as image:
            deep, lossy, mode = is_deep(image), image.format in LOSSY, image.mode
            image.load()
            if mode in NUMBERS and "transparency" not in image.info:
                numbers = np.array(image)
                if numbers.dtype == bool:
                    numbers = numbers.astype(np.uint8) * np.uint8(255)
                return LabelPicture(path, numbers, _grey(numbers), lossy=lossy)
            palette = np.array(image) if mode == "P" else None
            rgba = np.array(image.convert("RGBA"))
    except ValueError as error:
        raise error if str(error).startswith(str(path)) else ValueError(f"{path}: cannot be read ({error})") from error
    except Exception as error:
        raise ValueError(f"{path}: cannot be read ({error or type(error).__name__}); expected a picture") from error
    if deep:
        raise ValueError(f"{path}: colours of 16 bits a channel; expected 8 bits, or one channel of label values")
    colours, transparent = rgba[..., :3].copy(), _transparent(rgba, path)
    if transparent.any():
        colours[transparent] = 0
        if palette is not None:
            palette = np.where(transparent, 0, palette)
    alike = bool((colours == colours[..., :1]).all())
    numbers = palette if palette is not None else colours[..., 0] if alike else None
    return LabelPicture(path, numbers, colours, palette is not None, lossy)


def value_map(picture: LabelPicture, values: Collection[int] | None) -> np.ndarray:
    """(H, W) int64 label values of a mask, 0 for background.

    Of a palette the entries' numbers count, or its greys where these are the ones that mean something. Where one label
    alone is known, by 1 or by white, a mask of 0 and 1 and one of 0 and 255 say the same.

    Args:
        picture: see :func:`read_label_picture`.
        values: that mean a label; others are left as they are, for the caller to judge. None where all do.

    Raises:
        ValueError: colours, fractions, the traces of a lossy format, or a palette that can be read in two ways.
    """
    if picture.numbers is None:
        raise ValueError(
            f"{picture.path}: a mask in colours, but the labels are given by values; expected labels such as "
            '{"polyp": [200, 0, 200]}, with the colour of each'
        )
    readings = [picture.numbers]
    if picture.palette and picture.colours is not None and (picture.colours == picture.colours[..., :1]).all():
        readings.append(picture.colours[..., 0])
    readings = [inside_as(whole_numbers(reading, picture.path), values) for reading in readings]
    known = None if values is None else {0, *values}
    fitting = [r for r in readings if known is None or known.issuperset(np.unique(r).tolist())]
    if known is not None and any(not np.array_equal(fitting[0], other) for other in fitting[1:]):
        raise ValueError(
            f"{picture.path}: the numbers of its palette and the greys that they show are both label values, and "
            "differ; expected a mask without a palette"
        )
    if picture.lossy and (not fitting if known is not None else len(np.unique(readings[0])) > 2):
        raise ValueError(_lossy(picture.path, np.unique(readings[0])))
    return fitting[0] if fitting else readings[0]


def binary_map(picture: LabelPicture) -> np.ndarray:
    """(H, W) bool, the mask of one label: 0 outside and one other value inside.

    Raises:
        ValueError: more values, or what :func:`value_map` raises.
    """
    values = value_map(picture, None)
    check_binary(values, picture.path)
    return values != 0


def colour_map(picture: LabelPicture) -> np.ndarray:
    """(H, W, 3) uint8. Raises ValueError for a mask of values beyond 8 bits."""
    if picture.colours is None:
        raise ValueError(f"{picture.path}: values beyond 255, but the labels are given by colours; expected 8 bits")
    return picture.colours


def inside_as(values: np.ndarray, known: Collection[int] | None) -> np.ndarray:
    """Whole numbers as they are; those of a mask of 0 and 1, or 0 and white, as the value of the one known label."""
    if known is None or len(known) != 1:
        return values
    (value,) = known
    found = [int(v) for v in np.unique(values) if v]
    if value in INSIDE and len(found) == 1 and found[0] in INSIDE:
        return np.where(values != 0, value, 0)
    return values


def check_binary(values: np.ndarray, path: str | Path) -> None:
    """Raise a ValueError for more than 0 and one other value."""
    found = np.unique(values)
    if len(found) > 2 or (len(found) == 2 and found[0] != 0):
        raise ValueError(
            f"{path}: the values {shown(found)}; expected a binary mask, 0 and one other value: it is one label's own"
        )


def whole_numbers(values: np.ndarray, path: str | Path) -> np.ndarray:
    """int64 of label values that a scaling may have left a little off whole numbers.

    Raises:
        ValueError: fractions, or what is no number.
    """
    if values.dtype.kind in "iub":
        return values.astype(np.int64)
    rounded = np.round(values)
    with np.errstate(invalid="ignore"):
        broken = values[~(np.abs(values - rounded) <= NEAR)]
    if values.dtype.kind == "c" or broken.size:
        raise ValueError(
            f"{path}: values that are no whole numbers, such as {broken[0] if broken.size else values.flat[0]:g}; "
            "expected a mask of label values"
        )
    return rounded.astype(np.int64)


def shown(values: Collection[int] | np.ndarray) -> str:
    """The first few values, in words."""
    values = list(values)
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return ", ".join(str(int(v)) for v in values[:SHOWN]) + more


def _transparent(rgba: np.ndarray, path: Path) -> np.ndarray:
    """(H, W) bool: what counts as background because nothing is drawn there."""
    alpha = rgba[..., 3]
    transparent = alpha == 0
    soft = int(((alpha > 0) & (alpha < 255)).sum())
    if soft:
        raise ValueError(
            f"{path}: {soft} half-transparent pixels; expected a mask whose pixels are labelled or not: save it "
            "without soft edges, and without alpha"
        )
    if not transparent.any():
        return transparent
    hidden, drawn = (np.unique(rgba[part][:, :3], axis=0) for part in (transparent, ~transparent))
    if len(hidden) > 1:
        raise ValueError(
            f"{path}: {int(transparent.sum())} transparent pixels hide {len(hidden)} colours: whether these are "
            "labels is not clear; expected a mask without alpha"
        )
    if len(drawn) and not drawn.any():
        raise ValueError(
            f"{path}: black on transparency: the mask seems to lie in the alpha channel; expected black for "
            "background, and a mask without alpha"
        )
    return transparent


def _grey(numbers: np.ndarray) -> np.ndarray | None:
    return np.repeat(numbers[..., None], 3, axis=-1) if numbers.dtype == np.uint8 else None


def _lossy(path: Path, found: np.ndarray) -> str:
    return (
        f"{path}: the values {shown(found)} of a compression that changes pixels (JPEG); expected a mask saved as PNG "
        "from its source, or its values set to 0 and those of the labels"
    )
