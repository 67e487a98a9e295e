# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Points and boxes drawn into a mask prompt, so that the network sees each of them at its place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .prompt_encoder import FOREGROUND, PADDING

# The decoder is trained on masks of at most this logit; anything larger would be new to it.
LARGEST_LOGIT = 10.0
# What is drawn is as sure as a mask can be.
DRAWN_LOGIT = LARGEST_LOGIT


def draw_points(masks: Tensor, points: Tensor, labels: Tensor, image_size: Sequence[int]) -> Tensor:
    """Set the 3 x 3 x 3 cells around each point to a sure value; later points overwrite earlier ones.

    Args:
        masks: (N, 1, D, H, W) logits; they are not changed.
        points: (N, P, 3) voxel indices of the image.
        labels: (N, P) 1 foreground, 0 background, -1 not a point.
        image_size: voxels of the image along its three axes.
    """
    flat, size = masks.flatten(1), torch.tensor(masks.shape[2:], device=points.device)
    voxels_a_cell = torch.tensor(image_size, device=points.device) / size
    cells = ((points.float() + 0.5) / voxels_a_cell).floor().long()
    block = torch.cartesian_prod(*[torch.arange(-1, 2, device=points.device)] * 3)
    x, y, z = (cells[:, :, None] + block).clamp(min=0).minimum(size - 1).unbind(-1)
    places = ((x * masks.shape[3] + y) * masks.shape[4] + z).flatten(1)
    # All points at once, since a loop over them could not be exported: the last one to reach each place, 0 for none.
    order = (torch.arange(points.shape[1], device=points.device) + 1) * (labels != PADDING)
    order = order.to(masks.dtype).repeat_interleave(len(block), dim=1)
    last = torch.zeros_like(flat).scatter_reduce(1, places, order, "amax").gather(1, places)
    sure = torch.where(labels == FOREGROUND, DRAWN_LOGIT, -DRAWN_LOGIT).to(masks.dtype)
    drawn = F.pad(sure, (1, 0)).gather(1, last.long())
    return flat.scatter(1, places, torch.where(last > 0, drawn, flat.gather(1, places))).view_as(masks)


def draw_boxes(masks: Tensor, boxes: Tensor | None, image_size: Sequence[int]) -> Tensor:
    """The mask logits with a sure background outside each object's box.

    Args:
        masks: (N, 1, D, H, W) logits; they are not changed.
        boxes: (N, 2, 3) lowest and highest corner, voxel indices of the image; None for none.
        image_size: voxels of the image along its three axes.
    """
    if boxes is None:
        return masks
    outside = torch.zeros_like(masks, dtype=torch.bool)
    for axis, (cells, voxels) in enumerate(zip(masks.shape[2:], image_size, strict=True)):
        # The centres of the cells as voxel indices.
        centres = (torch.arange(cells, device=masks.device) + 0.5) * (voxels / cells) - 0.5
        beyond = (centres < boxes[:, :1, axis]) | (centres > boxes[:, 1:, axis])
        outside |= beyond.view(len(masks), 1, *(-1 if k == axis else 1 for k in range(3)))
    return masks.masked_fill(outside, -DRAWN_LOGIT)
