# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A click at 384 channels: prompts, decoder and the mask on the cube's voxels, published against this project's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bundles.fastsam3d.scripts.inference.decoding import CubeMemory, CubePrompt, decode_clicks
from bundles.fastsam3d.scripts.inference.label_map import label_map
from bundles.fastsam3d.scripts.inference.search import Look, Stage, View
from bundles.fastsam3d.scripts.inference.speed.fast_path import choose_precision, prepare_for_inference
from bundles.fastsam3d.scripts.networks.embedding import Embedding
from bundles.fastsam3d.scripts.networks.fastsam3d import FastSAM3D
from bundles.fastsam3d.scripts.networks.mask_decoder import MaskDecoder3D
from bundles.fastsam3d.scripts.networks.prompt_encoder import PromptEncoder3D
from bundles.fastsam3d.scripts.networks.published import SwappedFourierCode
from common.geometry import cube_around
from tools.benchmark import published_forms
from tools.benchmark.timing import Contestant

AGAINST = "ours_1"
OBJECTS = 8


def about(quick: bool) -> str:
    """What is measured, in a line."""
    return "clicks in a tiny cube" if quick else "clicks in an encoded cube of 128^3, decoder of 384 channels"


def contestants(device: torch.device, quick: bool) -> list[Contestant]:
    """The 1st and the 10th click and 8 objects; ``fp32`` rows are this project's code without its fast path."""
    channels, cells = (24, 4) if quick else (384, 8)
    table = Table(channels, cells, device)
    precision = choose_precision("auto", device)
    plain, fast = table.network, prepare_for_inference(table.network, precision)
    points, labels = table.clicks(10, 1)
    many, signs = table.clicks(1, OBJECTS)
    last = table.published(points[:, :9], labels[:, :9], None)[0]
    share = float(table.published(points[:, :1], labels[:, :1], None)[1].float().mean())
    rows = [
        Contestant("published_1", lambda: table.published(points[:, :1], labels[:, :1], None)[1]),
        Contestant(
            "ours_1",
            lambda: table.ours(fast, points[:, :1], labels[:, :1]),
            note=f"{precision}, the mask fills {share:.1%} of the cube",
        ),
        Contestant("published_10", lambda: table.published(points, labels, last)[1]),
        Contestant("ours_10", lambda: table.ours(fast, points, labels, last), note=f"{precision}, the 10th alone"),
        Contestant(
            "published_8_objects",
            lambda: [table.published(p[None], s[None], None)[1] for p, s in zip(many, signs, strict=True)],
            note="one after the other",
        ),
        Contestant("ours_8_objects", lambda: table.ours(fast, many, signs), note=f"{precision}, one call"),
        Contestant("ours_1_whole_cube", lambda: table.whole_cube(fast, points[:, :1], labels[:, :1]), note=precision),
        Contestant("ours_1_fp32", lambda: table.ours(plain, points[:, :1], labels[:, :1])),
        Contestant("ours_10_fp32", lambda: table.ours(plain, points, labels, last)),
    ]
    return rows


class Table:
    """One image's embedding with a published and a network of this project that hold the same weights.

    Args:
        channels: of the embedding.
        cells: of the embedding along each axis; a cell is 16 voxels wide.
        device: where everything lies.
    """

    def __init__(self, channels: int, cells: int, device: torch.device) -> None:
        torch.manual_seed(0)
        small = {} if channels == 384 else {"heads": 4, "mlp_dim": 32}
        self.prompts = published_forms.prompt_encoder(channels).to(device).eval()
        self.decoder = published_forms.mask_decoder(channels, **small).to(device).eval()
        prompts = PromptEncoder3D(channels, code=SwappedFourierCode(channels))
        self.network = FastSAM3D(nn.Identity(), prompts, MaskDecoder3D(channels, **small), zeros_for_no_mask=True)
        self.network.prompt_encoder.load_state_dict(self.prompts.state_dict())
        self.network.to(device).eval()
        self.size = 16 * cells
        self.cube, self.low = (cube_around((0, 0, 0), 1.5 * scale, n) for scale, n in ((1, self.size), (4, 4 * cells)))
        self.features = self._show_object(channels, cells).to(device)
        self._aim()
        self.network.mask_decoder.load_state_dict(self.decoder.state_dict())
        self.embeddings: dict[torch.dtype, Embedding] = {}

    def _show_object(self, channels: int, cells: int) -> Tensor:
        """Features (1, C, d, h, w) of a ball on a plain background."""
        axis = torch.arange(cells) + 0.5 - cells / 2
        distance = (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2).sqrt()
        ball = (distance < 0.3 * cells).float()
        return torch.randn(1, channels, 1, 1, 1) + 2 * ball * torch.randn(1, channels, 1, 1, 1)

    @torch.no_grad()
    def _aim(self) -> None:
        """Shift the logits of the random decoder so that the ball is positive and the background is not.

        The published form's time does not depend on the mask, but random logits would be positive all over the cube,
        which no object is. The parts of a cell become alike, one channel of theirs constant, its weight the shift.
        """
        for layer in (self.decoder.output_upscaling[0], self.decoder.output_upscaling[3]):
            layer.weight.copy_(4 * layer.weight.mean(dim=(2, 3, 4), keepdim=True).expand_as(layer.weight))
        upscaling, head = self.decoder.output_upscaling[3], self.decoder.output_hypernetworks_mlps[0].layers[-1]
        constant = 10.0
        upscaling.weight[:, 0] = 0
        upscaling.bias[0] = constant
        # So that the click moves the logits by less than the ball does.
        head.weight.mul_(0.1)
        head.weight[0] = 0
        head.bias.normal_(std=0.1)
        head.bias[0] = 0
        centre = torch.full((1, 1, 3), self.size / 2, device=self.features.device)
        labels = torch.ones(1, 1, dtype=torch.long, device=self.features.device)
        edge = self.low.shape[0] // 4
        for _ in range(2):
            logits = self.published(centre, labels, None)[0][0, 0]
            background = torch.cat([logits[:edge].flatten(), logits[-edge:].flatten()])
            ball = logits[(slice(edge + edge // 2, -edge - edge // 2),) * 3]
            if ball.mean() > background.mean():
                break
            head.weight.neg_()
            head.bias.neg_()
        head.bias[0] = -(background.max() + ball.mean()) / 2 / constant

    def clicks(self, count: int, objects: int) -> tuple[Tensor, Tensor]:
        """Points (objects, count, 3) around the middle and labels (objects, count)."""
        points = (0.3 + 0.4 * torch.rand(objects, count, 3, device=self.features.device)) * self.size
        return points, (torch.arange(count, device=points.device) % 3 != 2).long().expand(objects, -1)

    def published(self, points: Tensor, labels: Tensor, last: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits (1, 1, 4d, 4h, 4w) of one object and its mask on the cube, as the published code gets it."""
        grid = self.features.shape[2:]
        if last is None:
            last = self.features.new_zeros(1, 1, *(4 * n for n in grid))
        sparse, dense = self.prompts((self.size,) * 3, grid, points, labels, None, last)
        code = self.prompts.pe_layer.grid(grid)
        logits, _ = self.decoder(self.features, code, sparse, dense)
        return logits, F.interpolate(logits, size=(self.size,) * 3, mode="trilinear", align_corners=False) > 0

    def ours(self, network: FastSAM3D, points: Tensor, labels: Tensor, last: Tensor | None = None) -> Tensor:
        """Label map of N objects on the cube, by the functions that the bundle's inferer calls."""
        return self.label_map([answer.logits for answer in self.decode(network, points, labels, last)])

    def whole_cube(self, network: FastSAM3D, points: Tensor, labels: Tensor) -> Tensor:
        """The same for a mask without an end: nothing is spared on the way to the voxels."""
        return self.label_map([answer.logits.abs() + 1 for answer in self.decode(network, points, labels)])

    def label_map(self, masks: list[Tensor]) -> Tensor:
        """Logits (1, 4d, 4h, 4w) of N objects on the cube's voxels."""
        inside = torch.ones(self.low.shape, dtype=torch.bool, device=self.features.device)
        look = Look(Stage.CLICKS, self.cube, 1, 1, "")
        views = [[View(look, self.low, logits, inside, 0.0)] for logits in masks]
        return label_map(views, self.cube, self.features.device)

    def decode(
        self, network: FastSAM3D, points: Tensor, labels: Tensor, last: Tensor | None = None
    ) -> list[tuple[Tensor, float]]:
        """Logits (1, 4d, 4h, 4w) and predicted IoU of each object; all its points are shown at once."""
        prompts = [
            CubePrompt(p, s, mask=None if last is None else last[0], at_once=len(p))
            for p, s in zip(points, labels, strict=True)
        ]
        # A memory of its own, or the second run would know the answers.
        return decode_clicks(network, CubeMemory(self._embedding(network)), prompts)

    def _embedding(self, network: FastSAM3D) -> Embedding:
        dtype = network.mask_decoder.iou_token.weight.dtype
        if dtype not in self.embeddings:
            code = network.prompt_encoder.pe_layer.grid(self.features.shape[2:]).to(dtype)
            features = self.features.to(dtype, memory_format=torch.channels_last_3d)
            self.embeddings[dtype] = Embedding(features, (self.size,) * 3, (), code)
        return self.embeddings[dtype]
