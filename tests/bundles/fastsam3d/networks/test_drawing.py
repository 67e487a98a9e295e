# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Prompts drawn into the mask prompt, and the refiner that reads them."""

import pytest
import torch

from bundles.fastsam3d.scripts.networks.drawing import DRAWN_LOGIT, LARGEST_LOGIT, draw_boxes, draw_points
from bundles.fastsam3d.scripts.networks.fastsam3d import FastSAM3D
from bundles.fastsam3d.scripts.networks.mask_decoder import MaskDecoder3D
from bundles.fastsam3d.scripts.networks.prompt_encoder import PromptEncoder3D
from bundles.fastsam3d.scripts.networks.refiner import Refiner
from bundles.fastsam3d.scripts.networks.student import ConvStem3D, StudentEncoder3D

SIZE = (32, 32, 32)


def test_a_point_fills_its_cell_and_the_cells_around_it():
    masks = torch.zeros(1, 1, 16, 16, 16)
    drawn = draw_points(masks, torch.tensor([[[9.0, 20.0, 31.0]]]), torch.tensor([[1]]), SIZE)
    expected = torch.zeros_like(masks)
    # Voxels 8 and 9 are cell 4, 20 and 21 cell 10; 30 and 31 cell 15, the last one.
    expected[0, 0, 3:6, 9:12, 14:16] = DRAWN_LOGIT
    assert torch.equal(drawn, expected)
    assert not masks.any()


def test_a_later_point_lies_above_an_earlier_one_and_padding_is_not_drawn():
    points = torch.tensor([[[8.0, 8, 8], [10, 8, 8], [24, 24, 24]]])
    drawn = draw_points(torch.zeros(1, 1, 16, 16, 16), points, torch.tensor([[1, 0, -1]]), SIZE)[0, 0]
    assert drawn[5, 4, 4] == drawn[4, 4, 4] == -DRAWN_LOGIT
    assert drawn[3, 4, 4] == DRAWN_LOGIT
    assert not drawn[10:].any()


def test_each_object_has_its_own_points():
    points = torch.tensor([[[4.0, 4, 4]], [[20.0, 20, 20]]])
    drawn = draw_points(torch.zeros(2, 1, 16, 16, 16), points, torch.tensor([[1], [0]]), SIZE)
    assert drawn[0, 0, 2, 2, 2] == DRAWN_LOGIT and drawn[0, 0, 10, 10, 10] == 0
    assert drawn[1, 0, 2, 2, 2] == 0 and drawn[1, 0, 10, 10, 10] == -DRAWN_LOGIT


def test_outside_a_box_is_background():
    masks = torch.full((2, 1, 16, 16, 16), 3.0)
    boxes = torch.tensor([[[3.5, -0.5, 7.5], [11.5, 31.5, 15.5]], [[-0.5] * 3, [31.5] * 3]])
    drawn = draw_boxes(masks, boxes, SIZE)
    expected = torch.full((16, 16, 16), -DRAWN_LOGIT)
    expected[2:6, :, 4:8] = 3.0
    assert torch.equal(drawn[0, 0], expected)
    assert (drawn[1] == 3).all()
    assert draw_boxes(masks, None, SIZE) is masks


@pytest.fixture
def network():
    torch.manual_seed(0)
    encoder = StudentEncoder3D(
        32, 8, 24, 2, 3, ffn_blocks=1, out_channels=24, patterns=((8, 1),), order="morton", stem=ConvStem3D((8, 8), 24)
    )
    decoder = MaskDecoder3D(24, heads=2, mlp_dim=32, iou_head_hidden_dim=16, skip_channels=(8, 8))
    refiner = Refiner(8, (8, 8, 8), embed_dim=24, context=4)
    return FastSAM3D(encoder, PromptEncoder3D(24, boxes=True), decoder, refiner, draw_prompts=True).eval()


@torch.no_grad()
def test_objects_do_not_change_each_other_s_refined_masks(network):
    embedding = network.encode(torch.randn(1, 1, *SIZE))
    points, labels = torch.rand(3, 2, 3) * 31, torch.tensor([[1, 0], [1, 1], [1, 0]])
    masks = torch.randn(3, 1, 16, 16, 16)
    together, _ = network.decode(embedding, points, labels, masks=masks)
    alone = [network.decode(embedding, points[i, None], labels[i, None], masks=masks[i, None])[0] for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=0.1)


@torch.no_grad()
def test_the_refiner_sees_clicks_boxes_and_the_last_mask(network):
    embedding = network.encode(torch.randn(1, 1, *SIZE))
    zeros, detail = torch.zeros(1, 1, 16, 16, 16), embedding.detail
    assert detail.shape == (1, 13, 16, 16, 16)
    clicked = draw_points(zeros, torch.tensor([[[9.0, 9, 9]]]), torch.tensor([[1]]), SIZE)
    far, near = (network.refiner.near(seeds, detail) for seeds in (zeros, clicked))
    nothing = network.refiner(zeros, zeros, far, detail)
    for changed in ((clicked, zeros, far), (zeros, clicked, far), (zeros, zeros, near)):
        assert (network.refiner(*changed, detail) - nothing).abs().max() > 1e-3


@torch.no_grad()
def test_the_refiner_sees_the_embedding_only_where_it_is_asked_to(network):
    image, finest, features = torch.randn(1, 1, *SIZE), torch.randn(1, 8, 16, 16, 16), torch.randn(1, 24, 4, 4, 4)
    seen, other = (network.refiner.see(image, finest, x) for x in (features, -features))
    assert torch.equal(seen[:, :9], other[:, :9]) and not torch.allclose(seen[:, 9:], other[:, 9:], atol=0.1)
    assert Refiner(8, (8, 8, 8)).see(image, finest, features).shape == (1, 9, 16, 16, 16)


@torch.no_grad()
def test_rounds_in_one_call_are_calls_one_after_the_other(network):
    embedding = network.encode(torch.randn(1, 1, *SIZE))
    points, labels = torch.rand(2, 2, 3) * 31, torch.tensor([[1, 0], [1, 1]])
    logits = None
    for _ in range(3):
        masks = None if logits is None else logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
        logits, iou = network.decode(embedding, points, labels, masks=masks)
    together, iou_together = network.decode(embedding, points, labels, rounds=3)
    assert torch.equal(together, logits) and torch.equal(iou_together, iou)


def test_training_reaches_every_part(network):
    embedding = network.train().encode(torch.randn(1, 1, *SIZE))
    logits, iou = network.decode(embedding, torch.full((1, 1, 3), 15.0), torch.ones(1, 1, dtype=torch.long))
    (logits.mean() + iou.mean()).backward()
    for part in (network.image_encoder, network.prompt_encoder, network.mask_decoder, network.refiner):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_a_refiner_without_drawn_prompts_is_refused(network):
    with pytest.raises(ValueError, match="draw_prompts"):
        FastSAM3D(network.image_encoder, network.prompt_encoder, network.mask_decoder, network.refiner)
