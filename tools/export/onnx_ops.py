# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What torch's ONNX exporter cannot translate by itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from onnxscript import opset18 as op


def adaptive_average(x, size: Sequence[int]):
    """aten::_adaptive_avg_pool3d where the sizes divide each other, as they do where an image is brought to a grid."""
    strides = [a // b for a, b in zip(x.shape[2:], size, strict=True)]
    if [a * b for a, b in zip(strides, size, strict=True)] != list(x.shape[2:]):
        raise ValueError(f"an average from {list(x.shape[2:])} to {list(size)} cells: expected sizes that divide")
    return op.AveragePool(x, kernel_shape=strides, strides=strides)


TRANSLATIONS = {torch.ops.aten._adaptive_avg_pool3d.default: adaptive_average}
