# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The parts of a network that are exported one by one: their tensors, names and an example of each."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bundles.ssam_2d.scripts.networks.positions import resize_absolute


@dataclass
class Part:
    """What becomes one file.

    Attributes:
        name: of the file.
        module: takes and returns tensors alone.
        example: inputs to trace with; sizes that vary are above 1 in them.
        inputs, outputs: names, in order.
        varying: by input the axes whose size may change, each with a name.
    """

    name: str
    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: list[str]
    outputs: list[str]
    varying: dict[str, dict[int, str]]


class VolumeEncoder(nn.Module):
    """Image (1, 1, D, H, W) -> the tensors of its embedding."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        embedding = self.network.encode(image)
        detail = () if embedding.detail is None else (embedding.detail,)
        return embedding.features, *embedding.skips, *detail


class VolumeDecoder(nn.Module):
    """The tensors of an embedding, points (1, P, 3), labels (1, P) and the last mask's logits -> logits and IoU.

    Args:
        network: see FastSAM3D; a mask of zeros has to stand for none.
        embedding: of any image of the size that is exported.
    """

    def __init__(self, network: nn.Module, embedding: tuple) -> None:
        super().__init__()
        self.network, self.kind, self.image_size = network, type(embedding), embedding.image_size
        self.skips, self.detailed = len(embedding.skips), embedding.detail is not None

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        features, skips = tensors[0], tensors[1 : 1 + self.skips]
        detail = tensors[1 + self.skips] if self.detailed else None
        points, labels, mask = tensors[-3:]
        embedding = self.kind(features, self.image_size, skips, None, detail)
        return self.network.decode(embedding, points, labels, None, mask)


def volume_parts(network: nn.Module, cube_size: int) -> list[Part]:
    """Encoder and decoder of a FastSAM3D for cubes of one size.

    Raises:
        ValueError: a network for which a mask of zeros is something else than none.
    """
    if not (network.zeros_for_no_mask or network.draw_prompts):
        raise ValueError(
            "a network with an embedding learned for no mask: the exported decoder knows no mask only as zeros; export "
            "one with draw_prompts or zeros_for_no_mask, as the default and the published networks are"
        )
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 1, cube_size, cube_size, cube_size, generator=generator)
    with torch.no_grad():
        embedding = network.encode(image)
        tensors = VolumeEncoder(network)(image)
    names = ["features", *(f"skip{i}" for i in range(len(embedding.skips)))]
    names += [] if embedding.detail is None else ["detail"]
    points = torch.rand(1, 3, 3, generator=generator) * (cube_size - 1)
    mask = torch.randn(1, 1, *(4 * n for n in tensors[0].shape[2:]), generator=generator)
    decoder = VolumeDecoder(network, embedding)
    return [
        Part("encoder", VolumeEncoder(network), (image,), ["image"], names, {}),
        Part(
            "decoder",
            decoder,
            (*tensors, points, torch.tensor([[1, 0, 1]]), mask),
            [*names, "points", "labels", "mask"],
            ["logits", "iou"],
            {"points": {1: "points"}, "labels": {1: "points"}},
        ),
    ]


class ImageEncoder(nn.Module):
    """Image (1, 3, S, S) -> embedding (1, C, h, w)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        return self.network.encode(image)


class NameDecoder(ImageEncoder):
    """Embedding (1, C, h, w) and the text features (1, text_dim) of a name -> logits (1, 1, 4h, 4w) and IoU (1, 1)."""

    def forward(self, embedding: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        return self.decode(embedding, self.network.text_affine(features))

    def decode(self, embedding: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """As SAM does for one object in one image: its number is built into the decoder's graph."""
        encoder, grid = self.network.prompt_encoder, embedding.shape[2:]
        dense = encoder.no_mask_embed.weight[..., None, None].expand(-1, -1, *grid)
        code = encoder.pe_layer(tuple(grid))[None]
        return self.network.mask_decoder(embedding, code, tokens, dense, multimask_output=False)


class ClickDecoder(NameDecoder):
    """Embedding, points (1, P, 2) and labels (1, P) -> logits (1, 1, 4h, 4w) and IoU (1, 1).

    As in SAM's own export: 1 foreground, 0 background, 2 and 3 the first and the last corner of a box; where there is
    no box a point of the label -1 comes last.
    """

    def forward(self, embedding: Tensor, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """See the class. SAM's own tokens of points, without assignments to masks, which no exporter takes."""
        encoder, labels = self.network.prompt_encoder, labels[..., None]
        (rows, columns), grid = encoder.image_embedding_size, embedding.shape[2:]
        height, width = encoder.input_image_size
        scale = points.new_tensor([columns / grid[1] / width, rows / grid[0] / height])
        code = encoder.pe_layer._pe_encoding((points + 0.5) * scale)
        tokens = torch.where(labels == -1, encoder.not_a_point_embed.weight, code)
        for kind, embedded in enumerate(encoder.point_embeddings):
            tokens = torch.where(labels == kind, tokens + embedded.weight, tokens)
        return self.decode(embedding, tokens)


def image_parts(network: nn.Module, image_size: int) -> list[Part]:
    """Encoder and decoders of an SSAM for images of one size."""
    network = with_positions(network, image_size)
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, image_size, image_size, generator=generator)
    with torch.no_grad():
        embedding = network.encode(image)
    features = torch.randn(1, network.label_features.shape[1], generator=generator)
    points, labels = torch.rand(1, 3, 2, generator=generator) * (image_size - 1), torch.tensor([[1, 0, -1]])
    return [
        Part("encoder", ImageEncoder(network), (image,), ["image"], ["embedding"], {}),
        Part(
            "decoder",
            NameDecoder(network),
            (embedding, features),
            ["embedding", "features"],
            ["logits", "iou"],
            {},
        ),
        Part(
            "click_decoder",
            ClickDecoder(network),
            (embedding, points, labels),
            ["embedding", "points", "labels"],
            ["logits", "iou"],
            {"points": {1: "points"}, "labels": {1: "points"}},
        ),
    ]


def with_positions(network: nn.Module, image_size: int) -> nn.Module:
    """The network, or a copy whose positions are those of this size: resizing them would be part of every run."""
    encoder = network.image_encoder
    grid = (image_size // encoder.patch_size,) * 2
    if tuple(encoder.pos_embed.shape[1:3]) == grid:
        return network
    network = copy.deepcopy(network)
    network.image_encoder.pos_embed = nn.Parameter(resize_absolute(encoder.pos_embed.detach(), grid), False)
    return network
