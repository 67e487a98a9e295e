# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Image encoder, prompt encoder and mask decoder joined: a cube and prompts in, masks out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .candidates import unsure, with_candidates
from .drawing import LARGEST_LOGIT, draw_boxes, draw_points
from .embedding import Embedding
from .mask_decoder import MaskDecoder3D
from .prompt_encoder import FOREGROUND, PromptEncoder3D
from .refiner import Refiner


class FastSAM3D(nn.Module):
    """A promptable 3D segmentation network.

    (Inference computes the same in less time: ``inference/speed/fast_path.py`` makes the copy that does.)

    Args:
        image_encoder: (B, 1, D, H, W) -> features (B, C, d, h, w), or an :class:`Embedding`.
        prompt_encoder: points, boxes and masks to tokens.
        mask_decoder: tokens and features to logits.
        refiner: improves the mask decoder's logits; published weights have none. It needs an encoder with finer maps.
        draw_prompts: draw points and boxes into the mask prompt as well, so that the dense embedding shows where they
            are. Published weights were trained without.
        zeros_for_no_mask: show logits of 0 where there is no last mask, as SAM-Med3D's weights were trained, and not
            the embedding learned for it.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        prompt_encoder: PromptEncoder3D,
        mask_decoder: MaskDecoder3D,
        refiner: Refiner | None = None,
        draw_prompts: bool = False,
        zeros_for_no_mask: bool = False,
    ) -> None:
        super().__init__()
        if refiner is not None and not draw_prompts:
            raise ValueError("a refiner sees points and boxes only as they are drawn; expected draw_prompts with it")
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.refiner = refiner
        self.draw_prompts = draw_prompts
        self.zeros_for_no_mask = zeros_for_no_mask
        self.register_load_state_dict_pre_hook(_complete)

    def encode(self, image: Tensor) -> Embedding:
        """(B, 1, D, H, W) normalised intensities -> the embedding, which serves any number of :meth:`decode` calls."""
        out = self.image_encoder(image.to(self.mask_decoder.iou_token.weight.dtype))
        features, skips = (out.features, out.skips) if isinstance(out, Embedding) else (out, ())
        code = self.prompt_encoder.pe_layer.grid(features.shape[2:]).to(features.dtype)
        detail = None if self.refiner is None else self.refiner.see(image, skips[-1], features)
        return Embedding(features, tuple(image.shape[2:]), self.mask_decoder.project_skips(skips), code, detail)

    def decode(
        self,
        embedding: Embedding,
        points: Tensor,
        labels: Tensor,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        multimask: bool = False,
        rounds: int = 1,
        choose: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Masks of N objects in one image, in one call.

        A click alone, with no mask before it, may mean a part or the whole. Where the single mask is unsure, weights
        that have learned to offer candidates answer with one of them.

        Args:
            embedding: of one image (or of N images, one an object).
            points: (N, P, 3) voxel indices of the image, P may be 0.
            labels: (N, P) 1 foreground, 0 background.
            boxes: (N, 2, 3) low and high corner, voxel indices.
            masks: (N, 1, 4d, 4h, 4w) logits of the last masks.
            multimask: return the decoder's alternatives instead of its single mask.
            rounds: how often the decoder is asked. From the second time on it sees its own last answer, so that a
                click spreads further over a large object.
            choose: of the candidates' logits (N, K, 4d, 4h, 4w) and predicted IoU (N, K), the place of each object's,
                which then has no single mask; None for the highest predicted IoU.

        Returns:
            logits (N, M, 4d, 4h, 4w) and predicted IoU (N, M).
        """
        grid, size = embedding.features.shape[2:], embedding.image_size
        nothing = torch.zeros(len(points), 1, *(4 * n for n in grid), device=points.device)
        code = self.prompt_encoder.pe_layer.grid(grid) if embedding.code is None else embedding.code
        near = None
        if self.refiner is not None and not multimask:
            near = self.refiner.near(self._draw(nothing, points, labels, boxes, size), embedding.detail)
        offered = masks is None and boxes is None and points.shape[1] == 1 and not multimask and self.offers_candidates
        if masks is None and self.draw_prompts:
            masks = nothing

        def answer(candidates: bool = False) -> tuple[Tensor, Tensor]:
            logits, iou = self.mask_decoder(
                embedding.features, code, sparse, dense, multimask, embedding.skips, candidates
            )
            if candidates:
                chosen = iou.argmax(1) if choose is None else choose(logits, iou)
                logits, iou = (x[torch.arange(len(x), device=x.device), chosen][:, None] for x in (logits, iou))
            return logits if near is None else self.refiner(logits, masks, near, embedding.detail), iou

        logits = None
        for _ in range(rounds):
            if logits is not None:
                masks = logits.float().clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
            if self.draw_prompts:
                masks = self._draw(masks, points, labels, boxes, size)
            sparse, dense = self.prompt_encoder(size, grid, points, labels, boxes, masks, self.zeros_for_no_mask)
            code, sparse, dense = (x.to(embedding.features.dtype) for x in (code, sparse, dense))
            logits, iou = answer(candidates=offered and choose is not None)
            if offered and choose is None and bool((doubted := unsure(logits)).any()):
                others = answer(candidates=True)
                logits = torch.where(doubted.view(-1, 1, 1, 1, 1), others[0], logits)
                iou = torch.where(doubted[:, None], others[1], iou)
            offered = False
        return logits, iou

    @property
    def offers_candidates(self) -> bool:
        """Whether the weights have learned to."""
        candidates = self.mask_decoder.candidates
        return candidates is not None and bool(candidates.learned > 0)

    def completed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights from before there were candidates, as :func:`.candidates.with_candidates` completes them."""
        return with_candidates(state, self.state_dict())

    @staticmethod
    def _draw(masks: Tensor, points: Tensor, labels: Tensor, boxes: Tensor | None, size: Sequence[int]) -> Tensor:
        return draw_points(draw_boxes(masks, boxes, size), points, labels, size)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, D, H, W) -> logits (B, 1, D, H, W) of the object at the centre: a promptless default."""
        embedding = self.encode(image)
        batch, size = len(image), image.shape[2:]
        centre = (torch.tensor(size, dtype=torch.float32, device=image.device) - 1) / 2
        labels = torch.full((batch, 1), FOREGROUND, device=image.device)
        logits, _ = self.decode(embedding, centre.expand(batch, 1, 3), labels)
        return F.interpolate(logits, size=size, mode="trilinear", align_corners=False)


def _complete(network: FastSAM3D, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Before weights are loaded: what older ones do not have. (Within another module names have a prefix.)"""
    if not prefix:
        state.update(network.completed(state))
