# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A network whose answer to every prompt is known, in the place of the trained one."""

import torch
from torch import Tensor, nn

from bundles.ssam_2d.scripts.images import SAM_MEAN, SAM_STD
from common.label_names import to_tensor

# What each label looks like: the share of red, green and blue by which it is above the threshold.
LOOKS = {"red": (1.0, -1.0, -1.0), "green": (-1.0, 1.0, -1.0), "blue": (-1.0, -1.0, 1.0), "bright": (0.4, 0.4, 0.4)}
RADIUS = 12


class ColourNetwork(nn.Module):
    """A label is where its colour is; a click is a disc, less other discs for background; a box is its inside.

    Several prompts for one object mean what they have in common.
    """

    def __init__(self) -> None:
        super().__init__()
        self.set_labels(list(LOOKS), torch.tensor(list(LOOKS.values())))
        self.encoded = 0
        self.decoded: list[int] = []

    def set_labels(self, labels, features) -> None:
        self.labels, self.label_features = list(labels), nn.Parameter(features, requires_grad=False)
        self.register_buffer("label_names", to_tensor(labels))

    def encode(self, image: Tensor) -> Tensor:
        """(1, 3, H, W), normalised -> the same as 0 to 1."""
        self.encoded += 1
        mean, std = (torch.tensor(v)[:, None, None] for v in (SAM_MEAN, SAM_STD))
        return (image * std + mean) / 255

    def decode(self, embedding, features=None, points=None, point_labels=None, boxes=None, masks=None):
        """Logits (1, K, H, W), above 0 where the object is, and IoU (1, K)."""
        height, width = embedding.shape[2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        answers = []
        if features is not None:
            answers.append(torch.einsum("kc,chw->khw", features, embedding[0]) - 0.5)
        if points is not None:
            far = (columns - points[..., 0, None, None]) ** 2 + (rows - points[..., 1, None, None]) ** 2
            inside = RADIUS - far.sqrt()
            shown = torch.where((point_labels == 1)[..., None, None], inside, torch.tensor(-1e6)).amax(1)
            taken = torch.where((point_labels == 0)[..., None, None], inside, torch.tensor(-1e6)).amax(1)
            answers.append(torch.minimum(shown, -taken))
        if boxes is not None:
            left, top, right, bottom = boxes[..., None, None].unbind(1)
            across = torch.minimum(columns - left, right - columns)
            answers.append(torch.minimum(across, torch.minimum(rows - top, bottom - rows)) + 0.5)
        logits = torch.stack(answers).amin(0)
        self.decoded.append(len(logits))
        return 20 * logits[None], torch.full((1, len(logits)), 0.75)
