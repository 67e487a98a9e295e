# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A network whose answer is known without training: what is bright in its cube, where it is clicked."""

from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn


class _Embedding(NamedTuple):
    features: Tensor
    image: Tensor


class _Prompts(nn.Module):
    def __init__(self, takes_boxes: bool) -> None:
        super().__init__()
        self.takes_boxes = takes_boxes


class ThresholdNetwork(nn.Module):
    """Offers what the inferer asks of a network. Its logits cross zero where the intensity does in a ``Phantom``.

    Of several bright pieces it takes those under a foreground click, else the one that fills most of the box, else
    the one that the last mask covers most.
    """

    def __init__(self, boxes: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.prompt_encoder = _Prompts(boxes)
        self.encoded = 0
        self.calls: list[dict] = []

    def encode(self, image: Tensor) -> _Embedding:
        self.encoded += 1
        return _Embedding(image[:, :, ::4, ::4, ::4], image)

    def decode(self, embedding, points, labels, boxes=None, masks=None, multimask=False, rounds=1):
        self.calls.append({"points": points, "labels": labels, "boxes": boxes, "masks": masks})
        image = embedding.image[0, 0].float().cpu().numpy()
        level = np.where(image == 0, image.min(), image) - (image.min() + image.max()) / 2
        pieces, count = ndimage.label(level > 0)
        logits = []
        for i in range(len(points)):
            chosen = self._chosen(pieces, count, points[i], labels[i], boxes, masks, i)
            logits.append(np.where((pieces == 0) | np.isin(pieces, chosen), level, -np.abs(level)))
        return 4 * torch.as_tensor(np.stack(logits)[:, None], dtype=torch.float32), torch.full((len(points), 1), 0.9)

    def _chosen(self, pieces, count, points, labels, boxes, masks, i) -> list[int]:
        voxels = np.clip(points.numpy().round().astype(int), 0, np.array(pieces.shape) - 1)
        found = {int(v): int(pieces[tuple(p)]) for v in (0, 1) for p in voxels[labels.numpy() == v]}
        clicked = [int(pieces[tuple(p)]) for p, v in zip(voxels, labels.tolist(), strict=True) if v == 1]
        if clicked:
            return [c for c in clicked if c and c != found.get(0)]
        if boxes is not None:
            low, high = boxes[i].round().int().clamp(min=0).tolist()
            where = np.zeros(pieces.shape, bool)
            where[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] = True
        else:
            where = masks[i, 0].numpy() > 0
        sizes = np.bincount(pieces[where], minlength=count + 1)
        sizes[0] = 0
        return [int(sizes.argmax())] if sizes.any() else []
