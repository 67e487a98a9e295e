# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""SAM's three parts and the text affine layer joined: an image and label names, clicks or boxes in, masks out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..common import label_names
from .image_encoder import ImageEncoder
from .sam import MaskDecoder, PromptEncoder
from .text import TextAffine

# What a state dict says of the labels; these two have other sizes in every network.
LABEL_TENSORS = ("label_features", label_names.KEY)


class SSAM(nn.Module):
    """SAM, prompted by the names of labels (S-SAM, arXiv 2408.06447) as well as by clicks and boxes.

    Args:
        image_encoder: (B, 3, H, W) -> embedding (B, C, h, w).
        prompt_encoder: SAM's; clicks, boxes and masks to tokens of C channels.
        mask_decoder: SAM's; embedding and tokens to logits.
        text_affine: text features (K, text_dim) to tokens (K, 1, C).
        labels: the names that the network segments without further prompts.
        text_dim: channels of the text features.

    Attributes:
        label_features: (L, text_dim), the labels' text features, in the state dict. Frozen, unless training asks
            otherwise.
        label_names: their names, in the state dict too: see :mod:`..common.label_names`.

    A state dict brings its own labels: whoever loads one need not know how many there are.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        text_affine: TextAffine,
        labels: Sequence[str] = (),
        text_dim: int = 512,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.text_affine = text_affine
        self.set_labels(labels, torch.zeros(len(labels), text_dim))

    @property
    def labels(self) -> list[str]:
        """The names, one for each row of ``label_features``."""
        return label_names.from_tensor(self.label_names)

    def set_labels(self, labels: Sequence[str], features: Tensor) -> None:
        """Other labels, with their text features (L, text_dim).

        Raises:
            ValueError: a name twice, or not one row of features for each.
        """
        labels = label_names.checked(labels)
        if features.ndim != 2 or len(features) != len(labels):
            raise ValueError(f"{len(labels)} labels and features {tuple(features.shape)}; expected one row for each")
        device = self.text_affine.linear.weight.device
        self.register_buffer(label_names.KEY, label_names.to_tensor(labels).to(device))
        self.label_features = nn.Parameter(features.detach().float().clone().to(device), requires_grad=False)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Tensor],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing: list[str],
        unexpected: list[str],
        errors: list[str],
    ) -> None:
        """Makes room for as many labels as the state dict has; features without names are refused by any loader."""
        features, names = (state_dict.get(prefix + key) for key in LABEL_TENSORS)
        try:
            if names is not None and features is not None:
                if (features.shape, names.shape) != (self.label_features.shape, self.label_names.shape):
                    self.set_labels(label_names.from_tensor(names), features)
            elif features is not None and len(features) != len(self.labels):
                errors.append(f"{len(features)} labels without names: expected the tensor {prefix}{label_names.KEY}")
        except ValueError as problem:
            errors.append(str(problem))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)

    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, H, W), normalised, sides multiples of the patch -> embedding (B, C, h, w), for any prompts."""
        return self.image_encoder(image.to(self.mask_decoder.iou_token.weight.dtype))

    def decode(
        self,
        embedding: Tensor,
        features: Tensor | None = None,
        points: Tensor | None = None,
        point_labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        paired: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Masks of K objects in each of B images, in one call of the decoder.

        Args:
            embedding: (B, C, h, w).
            features: (K, text_dim) of the objects' names.
            points: (K, P, 2) (x, y) in pixels of the encoded image, the first pixel's centre at (0, 0).
            point_labels: (K, P) 1 foreground, 0 background, -1 no point.
            boxes: (K, 4) x and y of the first pixel inside, then of the last one.
            masks: (K, 1, 4h, 4w) logits of the last masks.
            paired: object i is looked for in image i alone, B = K.

        Returns:
            logits (B, K, 4h, 4w) and predicted IoU (B, K); where paired, (K, 1, 4h, 4w) and (K, 1).

        Raises:
            ValueError: no prompt, or prompts for different numbers of objects.
        """
        counts = {len(given) for given in (features, points, boxes, masks) if given is not None}
        if len(counts) != 1 or (points is None) != (point_labels is None):
            raise ValueError(
                f"prompts for {sorted(counts)} objects; expected features, points with point_labels, boxes or masks, "
                "each with one row for each object"
            )
        grid = embedding.shape[2:]
        sparse, dense = self._embed_prompts(grid, points, point_labels, boxes, masks)
        if features is not None:
            sparse = torch.cat([self.text_affine(features), *([] if sparse is None else [sparse])], dim=1)
        elif sparse is None:
            sparse = embedding.new_empty(counts.pop(), 0, embedding.shape[1])
        sparse, dense = sparse.to(embedding.dtype), dense.to(embedding.dtype)
        # SAM's decoder adds the dense embedding to that of one image: so that one call takes all pairs of an image and
        # an object, the sums are given as the dense ones of an empty image.
        if paired:
            shape, pairs = (len(embedding), 1), embedding + dense
        else:
            shape = len(embedding), len(sparse)
            pairs = (embedding[:, None] + dense).expand(-1, shape[1], -1, -1, -1).flatten(0, 1)
            sparse = sparse.repeat(shape[0], 1, 1)
        code = self.prompt_encoder.pe_layer(tuple(grid)).to(embedding.dtype)[None]
        logits, iou = self.mask_decoder(torch.zeros_like(embedding[:1]), code, sparse, pairs, multimask_output=False)
        return logits.unflatten(0, shape)[:, :, 0], iou.view(shape)

    def forward(self, image: Tensor, asked: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) -> logits (B, L, H, W) of all its labels.

        Args:
            image: see :meth:`encode`.
            asked: (B, L) bool, the labels that are decoded; the logits of the others are 0. By default all.
        """
        return self.find(self.encode(image), image.shape[2:], asked)

    def find(self, embedding: Tensor, shape: Sequence[int], asked: Tensor | None = None) -> Tensor:
        """Embeddings (B, C, h, w) of images of (H, W) pixels -> what :meth:`forward` gives."""
        if asked is None:
            logits, _ = self.decode(embedding, self.label_features)
        else:
            images, labels = asked.nonzero(as_tuple=True)
            found, _ = self.decode(embedding[images], self.label_features[labels], paired=True)
            logits = found.new_zeros(*asked.shape, *found.shape[2:]).index_put((images, labels), found[:, 0])
        return F.interpolate(logits, tuple(shape), mode="bilinear", align_corners=False)

    def _embed_prompts(
        self,
        grid: Sequence[int],
        points: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None,
        masks: Tensor | None,
    ) -> tuple[Tensor | None, Tensor]:
        """Tokens (K, T, C) of clicks and boxes if any, and what is added to each cell: (K or 1, C, h or 1, w or 1)."""
        encoder = self.prompt_encoder
        # The encoder knows one size alone: positions are brought to where they would lie in an image of that size.
        height, width = (own / now for own, now in zip(encoder.image_embedding_size, grid, strict=True))
        scale = encoder.no_mask_embed.weight.new_tensor([width, height])
        if points is not None:
            points = (points + 0.5) * scale - 0.5
        if boxes is not None:
            boxes = ((boxes.unflatten(-1, (2, 2)) + 0.5) * scale - 0.5).flatten(-2)
        dense = encoder.no_mask_embed.weight[..., None, None]
        if masks is not None:
            dense = encoder.mask_downscaling(masks)
        if points is None and boxes is None:
            return None, dense
        sparse, _ = encoder(None if points is None else (points, point_labels), boxes, None)
        return sparse, dense
