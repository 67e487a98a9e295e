# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""An array of somebody else's that an object's mask is written into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .packed import slices


def checked(array: Any, shape: Sequence[int]) -> np.ndarray | Tensor:
    """The array itself.

    Raises:
        ValueError: not an array or tensor of ``shape``, of bool or whole numbers, that can be written to.
    """
    if not isinstance(array, (np.ndarray, Tensor)):
        raise ValueError(f"a target buffer of {type(array).__name__}: expected an array or tensor")
    if tuple(array.shape) != tuple(shape):
        raise ValueError(f"a target buffer of shape {tuple(array.shape)}: expected that of the image, {tuple(shape)}")
    if isinstance(array, Tensor):
        whole = not (array.is_floating_point() or array.is_complex())
    else:
        whole = array.dtype.kind in "biu"
    if not whole:
        raise ValueError(f"a target buffer of {array.dtype}: expected bool or whole numbers")
    if isinstance(array, np.ndarray) and not array.flags.writeable:
        raise ValueError("a target buffer that cannot be written to: expected one that can")
    return array


def fill(buffer: np.ndarray | Tensor, mask: np.ndarray, box: Sequence[Sequence[int]]) -> None:
    """Write ``mask``, bool of the box, into the box."""
    place = slices(box)
    if isinstance(buffer, Tensor):
        buffer[place] = torch.from_numpy(np.ascontiguousarray(mask)).to(buffer.device, buffer.dtype)
    else:
        buffer[place] = mask
