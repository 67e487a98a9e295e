# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Images as they are shown to a network: three channels of 0 to 255; SAM's normalisation."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor
from torch.nn import functional as F

from .common.intensity import intensity_bounds
from .common.reading.options import MAX_PIXELS
from .image_files import read_pixels

# Of SAM's training images, in units of 0 to 255, red, green and blue.
SAM_MEAN = (123.675, 116.28, 103.53)
SAM_STD = (58.395, 57.12, 57.375)


class LoadImage2Dd(MapTransform):
    """Reads 2D images of any kind, see :func:`.image_files.read_pixels`.

    The result is a ``MetaTensor`` (3, H, W), float32, 0 to 255, rows first, on the stored pixels. Its meta holds
    ``filename_or_obj``, ``spatial_shape`` (W, H) as servers expect it, ``pixel_mm`` (of rows and columns; 0 where the
    file does not say) and ``notes``, JSON.

    Args:
        keys: of the paths.
        window: of intensities that are shown black and white, see :func:`.common.intensity.intensity_bounds`; with
            ``auto`` 8-bit images stay as they are.
        max_pixels: of an image; more are refused before any memory is taken for them.

    Raises:
        ValueError: see :func:`.image_files.read_pixels`; an image without contrast.
    """

    def __init__(
        self, keys: KeysCollection = "image", window: str | Sequence[float] = "auto", max_pixels: int = MAX_PIXELS
    ) -> None:
        super().__init__(keys)
        self.window = window
        self.max_pixels = max_pixels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.read_image(str(d[key]))
        return d

    def read_image(self, path: str) -> MetaTensor:
        """(3, H, W), see the class."""
        pixels = read_pixels(path, self.max_pixels)
        if (pixels.values == pixels.values[:1, :1]).all():
            value = ", ".join(f"{v:g}" for v in pixels.values[0, 0])
            raise ValueError(f"{path}: every pixel has the value {value}; expected an image with contrast")
        values = torch.from_numpy(np.ascontiguousarray(pixels.values.astype(pixels.values.dtype.newbyteorder("="))))
        try:
            shown = to_display(values, self.window).permute(2, 0, 1)
        except ValueError as problem:
            raise ValueError(f"{path}: {problem}") from problem
        meta = {
            "filename_or_obj": path,
            "spatial_shape": np.array(shown.shape[:0:-1]),
            "original_affine": np.eye(3),
            "pixel_mm": np.array(pixels.spacing or (0.0, 0.0)),
            "notes": json.dumps(pixels.notes),
        }
        return MetaTensor(shown.expand(3, -1, -1).contiguous(), affine=np.eye(3), meta=meta)


def to_network_size(image: Tensor, size: int | Sequence[int]) -> Tensor:
    """(C, H, W) -> (C, size, size), or rows and columns: the whole image, smoothed where it is reduced."""
    sides = (size, size) if isinstance(size, int) else tuple(size)
    return F.interpolate(image[None].float(), sides, mode="bilinear", align_corners=False, antialias=True)[0]


def to_display(values: Tensor, window: str | Sequence[float] = "auto") -> Tensor:
    """Any type and shape -> float32, 0 to 255: 8-bit values as they are, others by the window.

    Raises:
        ValueError: no contrast, or a window of another form.
    """
    if values.dtype == torch.uint8 and window == "auto":
        return values.float()
    values = values.float()
    finite = torch.isfinite(values)
    if not bool(finite.any()):
        raise ValueError("no value is a finite number; expected an image with contrast")
    if not bool(finite.all()):
        values = torch.where(finite, values, values[finite].min())
    low, high = intensity_bounds(values, window)
    return (values - low).mul_(255 / (high - low)).clamp_(0, 255)


def normalise(image: Tensor) -> Tensor:
    """(..., 3, H, W) of 0 to 255 -> SAM's normalisation."""
    mean, std = (image.new_tensor(v)[:, None, None] for v in (SAM_MEAN, SAM_STD))
    return (image - mean) / std
