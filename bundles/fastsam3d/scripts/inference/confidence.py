# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What logits are worth: probabilities, and how good a mask is likely to be.

``docs/notebook/calibration.md`` has the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..common.geometry import overlap
from ..networks.candidates import DOUBTED, expected_overlap
from ..networks.drawing import LARGEST_LOGIT
from .search import View


def probabilities(logits: Tensor, temperature: float) -> Tensor:
    """``sigmoid(logits / temperature)``; 0 where no cube was looked at.

    One temperature for all logits keeps the mask where the probability is above one half (temperature scaling: Guo et
    al., On Calibration of Modern Neural Networks, 2017).
    """
    return torch.where(logits == -LARGEST_LOGIT, 0.0, torch.sigmoid(logits / temperature))


def predicted_iou(views: Sequence[View], temperature: float) -> float | None:
    """The IoU that an object's mask is expected to have; None of a last mask that no click changed.

    The decoder's own estimate times what the probabilities say: the ratio of the expected intersection to the expected
    union, see :func:`..networks.candidates.expected_overlap`.

    Args:
        views: that make up the mask, the finest first.
        temperature: of the probabilities.
    """
    if views[0].score is None:
        return None
    intersection = union = 0.0
    for i, view in enumerate(views):
        doubted = view.inside & (view.logits[0] > DOUBTED)
        for finer in views[:i]:
            # A coarser cube counts around the finer ones alone.
            start, stop = overlap(view.grid, finer.grid)
            doubted[tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))] = False
        shared, together = expected_overlap(view.logits[0][doubted], temperature)
        volume = float(np.prod(view.grid.spacing))
        intersection += volume * float(shared)
        union += volume * float(together)
    return min(1.0, max(0.0, views[0].score)) * intersection / union if union else 0.0
