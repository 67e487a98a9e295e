# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Candidates for a first click: who is offered them, who chooses, and weights from before there were any."""

import numpy as np
import pytest
import torch

from bundles.fastsam3d.scripts.common.weights import load_weights
from bundles.fastsam3d.scripts.inference.speed.fast_path import prepare_for_inference
from bundles.fastsam3d.scripts.networks import candidates
from bundles.fastsam3d.scripts.networks.fastsam3d import FastSAM3D
from bundles.fastsam3d.scripts.networks.mask_decoder import MaskDecoder3D
from bundles.fastsam3d.scripts.networks.prompt_encoder import PromptEncoder3D
from bundles.fastsam3d.scripts.networks.refiner import Refiner
from bundles.fastsam3d.scripts.networks.student import ConvStem3D, StudentEncoder3D

COUNT = 3
PLACES = torch.tensor([[[10.0, 11, 12]], [[20.0, 5, 9]]])
LABELS = torch.ones(2, 1, dtype=torch.long)


def build(count=COUNT):
    torch.manual_seed(0)
    encoder = StudentEncoder3D(32, 8, 24, 2, 3, 2.0, 1, 24, ((8, 1),), "morton", ConvStem3D((4, 8), 24))
    decoder = MaskDecoder3D(24, heads=4, mlp_dim=32, iou_head_hidden_dim=16, skip_channels=(8, 4), candidates=count)
    refiner = Refiner(4, (8, 8, 8), 4, 24, 4)
    return FastSAM3D(encoder, PromptEncoder3D(24, 8, boxes=True), decoder, refiner, draw_prompts=True).eval()


def learned():
    network = build()
    network.mask_decoder.candidates.learned.fill_(1)
    return network


@pytest.fixture
def image():
    return torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def never_sure(monkeypatch):
    monkeypatch.setattr(candidates, "UNSURE", 1.1)


@torch.no_grad()
def answers(network, image, *prompts, **options):
    return network.decode(network.encode(image), *(prompts or (PLACES, LABELS)), **options)


def test_weights_from_before_answer_as_before(image, tmp_path):
    before = build(0)
    torch.save(before.state_dict(), tmp_path / "old.pt")
    network = learned()
    load_weights(network, tmp_path / "old.pt")
    assert not network.offers_candidates
    for ours, theirs in zip(answers(network, image), answers(before, image), strict=True):
        assert torch.equal(ours, theirs)
    network = learned()
    network.load_state_dict(before.state_dict())
    assert not network.offers_candidates
    # What they are taught from is the single mask, in every place.
    decoder = network.mask_decoder
    assert torch.equal(decoder.candidates.mask_tokens.weight, decoder.mask_tokens.weight[:1].expand(COUNT, -1))
    for head in decoder.candidates.output_hypernetworks_mlps:
        theirs = decoder.output_hypernetworks_mlps[0]
        assert all(torch.equal(a, b) for a, b in zip(head.parameters(), theirs.parameters(), strict=True))


def test_weights_with_candidates_come_back_as_they_were_saved(image, tmp_path):
    network = learned()
    torch.save(network.state_dict(), tmp_path / "new.pt")
    other = build()
    load_weights(other, tmp_path / "new.pt")
    assert other.offers_candidates
    assert torch.equal(answers(other, image)[0], answers(network, image)[0])
    with pytest.raises(ValueError, match=r"unknown \(mask_decoder.candidates.learned"):
        load_weights(build(0), tmp_path / "new.pt")


def test_weights_of_another_network_are_refused_as_ever(tmp_path):
    state = build(0).state_dict()
    del state["mask_decoder.mask_tokens.weight"], state["mask_decoder.iou_token.weight"]
    torch.save(state, tmp_path / "broken.pt")
    with pytest.raises(ValueError, match=r"2 missing \(mask_decoder.iou_token.weight, mask_decoder.mask_tokens.weight"):
        load_weights(build(), tmp_path / "broken.pt")


def test_a_click_alone_is_answered_by_the_candidate_of_the_highest_score(image, never_sure):
    network, seen = learned(), {}

    def choose(masks, scores):
        seen.update(masks=masks, scores=scores)
        return torch.tensor([1, 2])

    logits, iou = answers(network, image, choose=choose)
    assert seen["masks"].shape[:2] == seen["scores"].shape == (2, COUNT)
    assert torch.equal(iou[:, 0], seen["scores"][[0, 1], [1, 2]])
    for place in range(COUNT):
        of_each = answers(network, image, choose=lambda masks, scores, p=place: torch.full((2,), p))[0]
        for i, chosen in enumerate((1, 2)):
            assert torch.equal(of_each[i], logits[i]) == (place == chosen)
    best = seen["scores"].argmax(1)
    by_itself, score = answers(network, image)
    assert torch.equal(score[:, 0], seen["scores"].amax(1))
    assert torch.equal(by_itself, answers(network, image, choose=lambda *_: best)[0])


def test_each_mask_that_is_sure_stays(image, monkeypatch):
    network, single = learned(), build()
    alone = answers(single, image)
    monkeypatch.setattr(candidates, "UNSURE", 0.0)
    assert torch.equal(answers(network, image)[0], alone[0])
    monkeypatch.setattr(candidates, "UNSURE", 1.1)
    others = answers(network, image)
    monkeypatch.setattr("bundles.fastsam3d.scripts.networks.fastsam3d.unsure", lambda _: torch.tensor([True, False]))
    for ours, theirs, single_ones in zip(answers(network, image), others, alone, strict=True):
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], single_ones[1])


def test_how_much_of_a_mask_is_expected_to_be_right():
    temperature = candidates.TEMPERATURE
    logit = lambda p: temperature * float(np.log(p / (1 - p)))  # noqa: E731
    # Two cells in the mask, one beside it, and many that are outside for sure.
    masks = torch.full((2, 1, 4, 4, 4), -9.0)
    masks[0, 0, 0, 0, :3] = torch.tensor([logit(0.9), logit(0.8), logit(0.3)])
    masks[1, 0, 0, 1, :3] = logit(0.45)
    masks[1, 0, 0, 0, :3] = torch.tensor([logit(0.51), logit(0.51), logit(0.48)])
    # 1.7 / 2.3 and 1.02 / 3.83.
    shared, together = candidates.expected_overlap(masks[0, 0, 0, 0, :3], temperature)
    assert float(shared) == pytest.approx(1.7) and float(together) == pytest.approx(2.3)
    assert candidates.unsure(masks).tolist() == [False, True]
    assert candidates.unsure(torch.full((1, 1, 4, 4, 4), -9.0)).tolist() == [False]


def test_every_other_prompt_is_answered_by_the_single_mask(image, monkeypatch):
    network, single = learned(), build()
    mask = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(2))
    two = torch.cat([PLACES, PLACES + 2], dim=1), torch.tensor([[1, 0], [1, 1]])
    boxes = torch.tensor([[[4.0, 4, 4], [20, 20, 20]]]).expand(2, -1, -1)
    for prompts in ((PLACES, LABELS, None, mask), two, (PLACES, LABELS, boxes), (PLACES, LABELS, boxes, mask)):
        assert torch.equal(answers(network, image, *prompts)[0], answers(single, image, *prompts)[0])
    monkeypatch.setattr(candidates, "UNSURE", 1.1)
    assert not torch.equal(answers(network, image)[0], answers(single, image)[0])


def test_further_rounds_go_on_from_the_chosen_mask(image, never_sure):
    network = learned()
    first, _ = answers(network, image)
    second, _ = answers(network, image, PLACES, LABELS, None, first.clamp(-10, 10))
    torch.testing.assert_close(answers(network, image, rounds=2)[0], second)


def test_the_fast_copy_chooses_alike(image, never_sure):
    network = learned()
    fast = prepare_for_inference(network, "float32")
    for ours, theirs in zip(answers(fast, image), answers(network, image), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
