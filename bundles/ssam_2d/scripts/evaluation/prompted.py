# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The same adapter with points and boxes as prompts, to compare with label names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..common.clicks import deepest_point
from ..view import View
from .whole_image import WholeImageInferer

PROMPTS = ("point", "box", "text+point", "text+box")


class PromptedInferer(WholeImageInferer):
    """Prompts each label that an image shows by a point or box of its truth; the others stay empty.

    A point is the deepest of all of the label's pixels, a box holds all of them, in however many pieces they are.

    Args:
        labels: see :class:`.whole_image.WholeImageInferer`.
        view: likewise.
        prompts: ``point``, ``box``, or one of them beside the name: ``text+point``, ``text+box``.

    Raises:
        ValueError: other prompts.
    """

    def __init__(self, labels: Sequence[str], view: View | None = None, prompts: str = "point") -> None:
        super().__init__(labels, view)
        if prompts not in PROMPTS:
            raise ValueError(f"prompts {prompts!r}: expected {', '.join(PROMPTS)}")
        self.named, self.shape = prompts.startswith("text+"), prompts.removeprefix("text+")

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, truth: Tensor, **kwargs: Any) -> Tensor:
        """(B, 3, H, W) of 0 to 255, truth (B, L, H, W) -> probabilities (B, L, H, W)."""
        images, masks = torch.as_tensor(inputs), torch.as_tensor(truth) > 0
        probabilities = torch.zeros(masks.shape, device=images.device)
        for image, mask, probability in zip(images, masks, probabilities, strict=True):
            present = mask.flatten(1).any(1).nonzero().flatten().tolist()
            if present:
                probability[present] = self._ask(image, mask[present], network, [self.labels[k] for k in present])
        return probabilities

    def _ask(self, image: Tensor, masks: Tensor, network: nn.Module, names: Sequence[str]) -> Tensor:
        """(3, H, W) and (K, H, W) bool -> (K, H, W)."""
        scale = torch.tensor(self.view.scale(image.shape[1:]), device=image.device)
        prompts: dict[str, Tensor] = {}
        if self.shape == "point":
            rows_columns = [deepest_point(mask.cpu().numpy()) for mask in masks]
            points = torch.tensor(rows_columns, device=image.device).flip(-1)[:, None]
            prompts["points"] = _scaled(points, scale)
            prompts["point_labels"] = torch.ones(points.shape[:2], dtype=torch.long, device=image.device)
        else:
            prompts["boxes"] = _scaled(_boxes(masks).unflatten(-1, (2, 2)), scale).flatten(-2)
        if self.named:
            prompts["features"] = network.label_features[[network.labels.index(name) for name in names]]
        embedding = network.encode(self.view(image)[None])
        logits, _ = network.decode(embedding, **prompts)
        return self.view.back(logits, image.shape[1:])[0].sigmoid()


def _scaled(places: Tensor, scale: Tensor) -> Tensor:
    """(..., 2) x and y of pixel centres in the image -> in the square that the network sees."""
    return (places + 0.5) * scale - 0.5


def _boxes(masks: Tensor) -> Tensor:
    """(K, H, W) bool -> (K, 4) x and y of the first pixel inside and of the last one."""
    boxes = []
    for mask in masks:
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        boxes.append(torch.stack([columns[0], rows[0], columns[-1], rows[-1]]).flatten())
    return torch.stack(boxes)
