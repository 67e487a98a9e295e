# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""SAM ViT-B at 256 px: inference, and a step of training, of S-SAM as published, as here, and of its neighbours.

Steps are taken as train.json takes them, in bfloat16 where the processor computes in it, but for the published form,
which is as its code is; rows with ``fp32`` are in single precision throughout.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from monai.inferers import SimpleInferer
from monai.losses import DiceFocalLoss
from torch import Tensor, nn
from torch.nn import functional as F

from bundles.ssam_2d.scripts.networks.image_encoder import ImageEncoder
from bundles.ssam_2d.scripts.networks.published import PublishedImageEncoder, PublishedTextDecoder, ReformedWeight
from bundles.ssam_2d.scripts.networks.sam import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer
from bundles.ssam_2d.scripts.networks.ssam import LABEL_TENSORS, SSAM
from bundles.ssam_2d.scripts.networks.text import TextAffine
from common.precision import MixedPrecision
from common.svd_affine import Adaptation, adapt, layer
from tools.benchmark.timing import Contestant

AGAINST = "sam_plain"
# Each row is also run in a process of its own, for its memory: see peak.py.
PEAKS = True
TUNED = ("attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2")
TARGETS = [*(f"image_encoder.blocks.*.{part}" for part in TUNED), "image_encoder.neck.0", "image_encoder.neck.2"]
TRAINABLE = ["image_encoder.blocks.*.norm?.*", "image_encoder.neck.[13].*", "image_encoder.pos_embed", "text_affine.*"]
STEPS = ("published", "ours", "lora", "full", "ours_fp32", "lora_fp32")
BATCHES = (1, 8)
ROWS = ("sam_plain", "published", "merged", *(f"step_{name}_b{batch}" for batch in BATCHES for name in STEPS))
# segment-anything's arguments for what the bundle's encoder is by default: SAM ViT-B at 256 px.
PLAIN: dict[str, Any] = {"img_size": 256, "use_rel_pos": True, "window_size": 14, "global_attn_indexes": (2, 5, 8, 11)}
PLAIN["norm_layer"] = partial(nn.LayerNorm, eps=1e-6)
TINY = {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 2, "out_chans": 32}
NOTES = {
    "sam_plain": "encoder and one label of the decoder",
    "published": "W' formed anew in each pass; without windows and relative positions",
    "merged": "adapted and merged",
}


def about(quick: bool) -> str:
    """What is measured, in a line."""
    return "a tiny SAM" if quick else "SAM ViT-B at 256 px, one label an image; steps at batch 1 and 8"


def contestants(device: torch.device, quick: bool) -> list[Contestant]:
    """All rows; what several need is built once."""
    networks = Networks(device, quick)
    return [networks.contestant(name) for name in ROWS]


class Networks:
    """The contestants' networks, each built when first asked for.

    Args:
        device: where they lie.
        quick: tiny sizes.
    """

    def __init__(self, device: torch.device, quick: bool) -> None:
        self.device, self.sizes = device, TINY if quick else {}
        self.side = self.sizes.get("img_size", 256)

    def contestant(self, name: str) -> Contestant:
        """The row of this name."""
        # Training needs tensors that were not made in inference mode, in which the benchmark runs.
        with torch.inference_mode(False):
            if not name.startswith("step_"):
                network = getattr(self, name)
                images = self._images(1)
                return Contestant(name, torch.inference_mode()(lambda: network(images)), note=NOTES[name])
            kind, _, batch = name.removeprefix("step_").rpartition("_")
            adaptation = self.tuned[kind.removesuffix("_fp32")]
            extra = {"trained": sum(p.numel() for p in parameters_of(adaptation))}
            if isinstance(adaptation, Adaptation):
                extra["adapter_mb"] = adapter_megabytes(adaptation)
            amp = "auto" if kind in ("ours", "lora", "full") else False
            step = self._step(adaptation, int(batch[1:]), amp)
            return Contestant(
                name, torch.inference_mode(False)(step), note=f"{extra['trained']:,} trained", extra=extra
            )

    @cached_property
    def sam_plain(self) -> nn.Module:
        """SAM with its text layer, nothing adapted, its encoder computed by segment-anything's own code."""
        network = self._sam()
        encoder = ImageEncoderViT(**{**PLAIN, **self.sizes})
        encoder.load_state_dict(network.image_encoder.state_dict())
        network.image_encoder = encoder.to(self.device)
        return network.eval()

    @cached_property
    def merged(self) -> nn.Module:
        """This project's, merged."""
        adaptation = self._adapted("svd_affine", TARGETS, TRAINABLE)
        adaptation.merge()
        return adaptation.module.eval()

    @cached_property
    def published(self) -> nn.Module:
        """S-SAM as its code was published."""
        return Published(self.sizes).to(self.device).eval()

    @cached_property
    def tuned(self) -> _Lazy:
        """What is trained, by the middle part of a step's name."""
        return _Lazy(
            {
                "published": lambda: self.published,
                "ours": lambda: self._adapted("svd_affine", TARGETS, TRAINABLE),
                "lora": lambda: self._adapted("lora", TARGETS, TRAINABLE),
                "full": lambda: self._adapted("selection", (), ["image_encoder.*", "*_decoder.*", "text_affine.*"]),
            }
        )

    def _sam(self) -> SSAM:
        torch.manual_seed(0)
        encoder = ImageEncoder(**{"img_size": 256, **self.sizes})
        share_weights(encoder)
        width, grid = self.sizes.get("out_chans", 256), (self.side // 16,) * 2
        transformer = TwoWayTransformer(2, width, 8, 2048)
        prompts = PromptEncoder(width, grid, (self.side,) * 2, 16)
        decoder = MaskDecoder(transformer_dim=width, transformer=transformer)
        network = SSAM(encoder, prompts, decoder, TextAffine(512, width), ["object"], 512)
        network.set_labels(["object"], torch.randn(1, 512))
        return network.to(self.device)

    def _adapted(self, method: str, targets: Any, trainable: Any) -> Adaptation:
        with factored_once():
            return adapt(self._sam(), method, targets, trainable=trainable, apart=LABEL_TENSORS)

    def _images(self, count: int) -> Tensor:
        return torch.randn(count, 3, self.side, self.side, device=self.device)

    def _step(self, tuned: Adaptation | nn.Module, batch: int, amp: bool | str) -> Callable[[], None]:
        """Forward, loss, backward and the optimiser's step, on the same images each time."""
        network = tuned.module if isinstance(tuned, Adaptation) else tuned
        optimizer = torch.optim.AdamW(parameters_of(tuned), 1e-4, weight_decay=1e-2)
        loss = DiceFocalLoss(sigmoid=True, alpha=0.75, gamma=3.0)
        images, inferer = self._images(batch), MixedPrecision(SimpleInferer(), amp)
        target = (torch.rand(batch, 1, self.side, self.side, device=self.device) < 0.3).float()

        def step() -> None:
            loss(inferer(images, network), target).backward()
            optimizer.step()
            optimizer.zero_grad()

        return step


class _Lazy(dict):
    """Builds a value when it is first asked for."""

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if callable(value) and not isinstance(value, nn.Module):
            self[key] = value = value()
        return value


class Published(nn.Module):
    """The published encoder and text decoder, with what the published training tunes.

    Args:
        sizes: see PublishedImageEncoder.
    """

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__()
        torch.manual_seed(0)
        side, width = sizes.get("img_size", 256), sizes.get("out_chans", 256)
        self.encoder = PublishedImageEncoder(**sizes)
        share_weights(self.encoder)
        self.decoder = PublishedTextDecoder(width, side // 16, side)
        with factored_once():
            for part in self.encoder.modules():
                if isinstance(part, ReformedWeight):
                    part.U, part.S, v, _ = layer.factor(part.weight)
                    part.V = v.flatten(1)
        self.register_buffer("text", torch.randn(1, 512))
        self.requires_grad_(False)
        for name, parameter in self.named_parameters():
            if any(tag in name for tag in ("trainable_", "norm", ".ln", "pos_embed", "Text_Embedding_Affine")):
                parameter.requires_grad_(True)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, 1, H, W)."""
        masks, _ = self.decoder(self.encoder(images), self.text.expand(len(images), -1))
        return F.interpolate(masks, images.shape[2:], mode="bilinear", align_corners=False)


def parameters_of(tuned: Adaptation | nn.Module) -> list[nn.Parameter]:
    """What is trained."""
    if isinstance(tuned, Adaptation):
        return list(tuned.trainable().values())
    return [parameter for parameter in tuned.parameters() if parameter.requires_grad]


def adapter_megabytes(adaptation: Adaptation) -> float:
    """The size of the adapter's file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "adapter.safetensors"
        adaptation.take({"object": torch.randn(512)}).save(file)
        return file.stat().st_size / 1e6


def share_weights(encoder: nn.Module) -> None:
    """The first block's large weights for all blocks: times do not depend on values, and one is factored sooner."""
    with torch.no_grad():
        for block in encoder.blocks[1:]:
            for part in TUNED:
                block.get_submodule(part).weight.copy_(encoder.blocks[0].get_submodule(part).weight)


@contextmanager
def factored_once() -> Iterator[None]:
    """Equal weights are factored once; each layer gets a copy of the factors."""
    plain, known = layer.factor, {}

    def factor(weight: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
        key = tuple(weight.shape), float(weight.detach().double().sum())
        if key not in known:
            known[key] = plain(weight)
        *factors, error = known[key]
        return *(part.clone() for part in factors), error

    layer.factor = factor
    try:
        yield
    finally:
        layer.factor = plain
