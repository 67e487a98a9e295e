# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The simulated person, and what the network reaches with it."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from bundles.fastsam3d.scripts.networks.fastsam3d import FastSAM3D
from bundles.fastsam3d.scripts.networks.mask_decoder import MaskDecoder3D
from bundles.fastsam3d.scripts.networks.prompt_encoder import PromptEncoder3D
from bundles.fastsam3d.scripts.networks.student import ConvStem3D, StudentEncoder3D
from bundles.fastsam3d.scripts.training.clicking import Clicking, Interaction, solid, spoiled_mask
from bundles.fastsam3d.scripts.training.interactive import (
    InteractiveLoss,
    InteractiveNetwork,
    best_candidate,
    interact,
    overlaps,
)

SIZE, CELLS = 32, 16
MIXED = {"deepest": 0.2, "distance": 0.5, "random": 0.3}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    encoder = StudentEncoder3D(SIZE, 8, 24, 2, 3, 2.0, 1, 24, ((8, 1),), "morton", ConvStem3D((4, 8), 24))
    return FastSAM3D(
        encoder, PromptEncoder3D(24, 8, boxes=True), MaskDecoder3D(24, 1, 4, 32, 1, 2, 16, (8, 4)), draw_prompts=True
    )


@pytest.fixture
def objects():
    """(2, 1, 16, 16, 16): a ball, and a plate thinner than a cell."""
    grid = np.stack(np.meshgrid(*[np.arange(CELLS)] * 3, indexing="ij"), axis=-1)
    ball = np.linalg.norm(grid - 7, axis=-1) < 5
    plate = np.zeros((CELLS,) * 3)
    plate[4, 3:12, 3:12] = 0.3
    return torch.from_numpy(np.stack([ball, plate]).astype(np.float32))[:, None]


def person(objects, seed=0, steps=4, **behaviour):
    rng = np.random.default_rng(seed)
    clicking = Clicking(**{"steps": steps, "promptless": 0, **behaviour})
    return Interaction(objects, SIZE // CELLS, clicking, steps, rng, rng.spawn(len(objects)))


def test_every_first_prompt_can_be_decoded_and_corrected(network, objects):
    embedding = network.encode(torch.randn(1, 1, SIZE, SIZE, SIZE))
    seen = set()
    for seed in range(40):
        state = person(objects, seed, clicks=MIXED, box=0.25, scribble=0.25, mask=0.25, forget=0.2)
        for _ in range(2):
            points, labels, _, masks = state.prompts
            assert points.shape[:2] == labels.shape
            assert masks is None or float(masks.abs().max()) <= 10
            logits, _ = network.decode(embedding, *state.prompts)
            state.correct(logits)
            assert state.points.shape[1] == points.shape[1] + 1
        seen.add(str(state.form))
    assert seen == {"click", "box", "scribble", "mask"}


def test_the_papers_clicks_are_deep_at_first_then_anywhere_in_the_error(objects):
    inside = solid(objects)[:, 0].numpy()
    later = []
    for seed in range(60):
        state = person(objects, seed)
        state.correct(torch.full_like(objects, -1.0))
        state.correct(torch.full_like(objects, -1.0))
        cells = (state.points // 2).long()
        for k, (mask, places) in enumerate(zip(inside, cells, strict=True)):
            depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
            depths = depth[tuple(places.T.numpy())]
            assert (depths[:2] > depth.max() / 2).all()
            assert depths[2] > 0
            later.append(depths[2] / depth.max() if k == 0 else 1)
        assert (state.labels == 1).all()
    assert min(later) < 0.4


def test_deepest_clicks_leave_nothing_to_chance(objects):
    first, second = person(objects, 0, clicks="deepest"), person(objects, 1, clicks="deepest")
    for state in (first, second):
        state.correct(torch.full_like(objects, 5.0))
    assert torch.equal(first.points, second.points)
    assert first.points[0, 0].tolist() == [15, 15, 15]
    assert (first.labels == torch.tensor([[1, 0], [1, 0]])).all()


def test_an_object_is_clicked_the_same_whatever_else_is_in_the_batch(objects):
    rng = np.random.default_rng(0)
    own = lambda i: np.random.default_rng(i)  # noqa: E731
    clicking = Clicking(steps=3, promptless=0, clicks=MIXED)
    both = Interaction(objects, 2, clicking, 3, rng, [own(5), own(6)])
    alone = Interaction(objects[1:], 2, clicking, 3, np.random.default_rng(0), [own(6)])
    for state in (both, alone):
        state.correct(torch.zeros_like(state.targets) - 1)
    assert torch.equal(both.points[1:], alone.points)


@pytest.mark.parametrize("steps, count, expected", [(11, 2, 2), (3, 1, 1), (2, 1, 1), (5, 0, 0), (4, 3, 3)])
def test_promptless_steps_show_the_last_mask_alone(objects, steps, count, expected):
    seen = set()
    for seed in range(12):
        state = person(objects, seed, steps=steps, promptless=count, forget=1.0)
        bare = []
        for step in range(steps):
            points, _, boxes, masks = state.prompts
            if points.shape[1] == 0:
                bare.append(step)
                assert boxes is None and masks is not None
            if step + 1 < steps:
                state.correct(torch.full_like(objects, -1.0))
        assert len(bare) == expected
        assert 0 not in bare
        assert not expected or bare[-1] == steps - 1
        assert state.points.shape[1] == steps - expected
        seen.add(tuple(bare))
    assert len(seen) > 1 if steps == 11 else len(seen) == 1


def test_jittered_clicks_miss_a_little_and_stay_in_the_cube(objects):
    exact, missed = person(objects, clicks="deepest"), person(objects, clicks="deepest", jitter=3.0)
    assert not torch.equal(exact.points, missed.points)
    assert (exact.points - missed.points).abs().max() < 15
    wild = person(objects, clicks="deepest", jitter=100.0)
    assert wild.points.min() >= 0 and wild.points.max() <= SIZE - 1


def test_boxes_are_loose_and_hold_the_object(objects):
    state = person(objects, box=1.0)
    low, high = state.boxes[0]
    assert (low < 8).all() and (high > 20).all()
    assert state.prompts[0].shape[1] == 0


def test_an_object_that_fills_its_cube_can_be_scribbled_on():
    state = person(torch.ones(1, 1, CELLS, CELLS, CELLS), scribble=1.0, seed=2)
    assert (state.labels == 1).all()


def test_a_spoiled_mask_still_resembles_its_object():
    target = torch.zeros(1, 32, 32, 32)
    target[:, 8:24, 8:24, 8:24] = 1
    for seed in range(10):
        logits = spoiled_mask(target, np.random.default_rng(seed))
        assert logits.shape == target.shape
        assert float(logits.abs().max()) <= 10
        assert 0.4 < float(overlaps(logits[None], target[None])[0]) < 1


@pytest.mark.parametrize(
    "behaviour, message",
    [
        ({"steps": 0}, "steps 0"),
        ({"steps": []}, "steps"),
        ({"steps": 3, "promptless": 3}, "promptless 3: expected more steps than promptless ones"),
        ({"clicks": "anywhere"}, "expected paper, deepest, or a share for each of deepest, distance, random"),
        ({"clicks": {"deep": 1.0}}, "expected paper, deepest, or a share for each of deepest, distance, random"),
        ({"box": 0.7, "mask": 0.7}, "expected shares of box, scribble and mask of at most 1"),
        ({"jitter": -1}, "jitter >= 0"),
    ],
)
def test_behaviour_that_cannot_be(behaviour, message):
    with pytest.raises(ValueError, match=message):
        Clicking(**behaviour)


def cubes(count=2, objects=2):
    label = torch.zeros(count, objects, 1, SIZE, SIZE, SIZE, dtype=torch.uint8)
    label[:, :, :, 8:22, 6:20, 10:24] = 1
    return torch.randn(count, 1, SIZE, SIZE, SIZE, generator=torch.Generator().manual_seed(0)), label


def test_all_steps_of_all_objects_come_out(network):
    image, label = cubes()
    np.random.seed(0)
    answers = InteractiveNetwork(network, Clicking(steps=3, promptless=1))(image, label, torch.tensor([4, 5]))
    assert answers["logits"].shape == (3, 4, 1, CELLS, CELLS, CELLS)
    assert answers["iou"].shape == answers["dice"].shape == (3, 4)
    assert answers["target"].shape == (4, 1, CELLS, CELLS, CELLS)
    assert InteractiveLoss()(answers).isfinite()


def test_a_batch_answers_as_its_cubes_do_one_by_one(network):
    image, label = cubes()
    seed = torch.tensor([4, 5])
    model = InteractiveNetwork(network, Clicking(steps=3, promptless=1))
    with torch.no_grad():
        np.random.seed(0)
        together = model(image, label, seed)["logits"]
        alone = []
        for i in range(2):
            np.random.seed(0)
            alone.append(model(image[i : i + 1], label[i : i + 1], seed[i : i + 1])["logits"])
    torch.testing.assert_close(together, torch.cat(alone, dim=1), atol=1e-4, rtol=1e-4)


def test_the_loss_is_the_mean_over_steps_of_dice_and_cross_entropy():
    target = torch.zeros(1, 1, 4, 4, 4)
    target[..., :2] = 1
    right = (2 * target - 1) * 20
    answers = {"target": target, "logits": torch.stack([right, right]), "iou": torch.ones(2, 1)}
    assert float(InteractiveLoss()(answers)) < 1e-3
    answers["logits"] = torch.stack([right, torch.zeros_like(right)])
    # Logits of 0: Dice 1 - (2 * 16 + 1e-5) / (32 + 32 + 1e-5), cross entropy log 2; IoU reached 0, predicted 1.
    assert float(InteractiveLoss(0.1)(answers)) == pytest.approx((0.5 + np.log(2) + 0.1) / 2, abs=1e-3)
    answers["iou"] = torch.tensor([[1.0], [0.0]])
    assert float(InteractiveLoss(0.1)(answers)) == pytest.approx((0.5 + np.log(2)) / 2, abs=1e-3)


def test_training_on_one_object_learns_it(network):
    image, label = cubes(1, 1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for step in range(30):
        rng = np.random.default_rng(step)
        answers = interact(network, image, label, Clicking(steps=2, promptless=0), 2, rng, rng.spawn(1))
        loss = InteractiveLoss()(answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.75 * losses[0]


def test_rehearsed_steps_lead_to_the_others_and_are_not_learned_from(network):
    image, label = cubes(1, 1)
    seen = []
    decode = network.decode

    def watched(embedding, points, *rest, **options):
        seen.append((points.shape[1], torch.is_grad_enabled()))
        return decode(embedding, points, *rest, **options)

    network.decode = watched
    rng = np.random.default_rng(0)
    clicking = Clicking(steps=2, promptless=0)
    answers = interact(network, image, label, clicking, 5, rng, rng.spawn(1), rehearsed=3)
    assert seen == [(1, False), (2, False), (3, False), (4, True), (5, True)]
    assert len(answers["logits"]) == len(answers["iou"]) == len(answers["dice"]) == 2
    assert answers["logits"].requires_grad


@pytest.mark.parametrize("again, points", [(0.0, 4), (1.0, 1)])
def test_a_step_may_bring_no_new_click_and_then_always_sees_the_last_mask(again, points):
    target = torch.zeros(1, 1, 8, 8, 8)
    target[:, :, 2:6, 2:6, 2:6] = 1
    rng = np.random.default_rng(0)
    person = Interaction(target, 2, Clicking(steps=4, promptless=0, forget=1.0, again=again), 4, rng, rng.spawn(1))
    for _ in range(3):
        person.correct(torch.full_like(target, 2.0))
    assert person.points.shape[1] == points
    assert (person.masks is None) == (again == 0)


def cube_of(side):
    target = torch.zeros(1, 1, CELLS, CELLS, CELLS)
    target[..., :side, :side, :side] = 1
    return target


def test_an_object_is_learned_by_its_best_candidate():
    small, large = cube_of(2), cube_of(8)
    logits = lambda *masks: 20 * torch.cat([2 * m - 1 for m in masks], dim=1)  # noqa: E731
    assert best_candidate(logits(small, cube_of(4), large), large).tolist() == [2]
    # Where one has the other's place, being right counts for more than the size.
    assert best_candidate(logits(large, cube_of(4), small), large).tolist() == [0]
    # Alike, the size decides: 1/512, 27/4096 and 1/8 of the cube.
    same = logits(small, small, small)
    assert [best_candidate(same, cube_of(side)).tolist() for side in (1, 2, 3, 8)] == [[0], [0], [1], [2]]


def with_candidates():
    torch.manual_seed(0)
    encoder = StudentEncoder3D(SIZE, 8, 24, 2, 3, 2.0, 1, 24, ((8, 1),), "morton", ConvStem3D((4, 8), 24))
    decoder = MaskDecoder3D(24, 1, 4, 32, 1, 2, 16, (8, 4), candidates=2)
    return FastSAM3D(encoder, PromptEncoder3D(24, 8, boxes=True), decoder, draw_prompts=True)


def test_candidates_are_taught_where_they_are_asked_for():
    image, label = cubes(1, 2)
    clicking = Clicking(steps=2, promptless=0)
    seed = torch.tensor([3])
    network = with_candidates()
    assert "candidates" not in InteractiveNetwork(network, clicking)(image, label, seed)
    teaching = InteractiveNetwork(network, clicking, candidates=True)
    answers = teaching.eval()(image, label, seed)
    assert "candidates" not in answers and not network.offers_candidates
    answers = teaching.train()(image, label, seed)
    assert answers["candidates"].shape == (2, 2, *answers["target"].shape[2:])
    assert answers["scores"].shape == (2, 2) and network.offers_candidates
    InteractiveLoss()(answers).backward()
    learned = network.mask_decoder.candidates
    won = set(answers["best"].tolist())
    for place, head in enumerate(learned.output_hypernetworks_mlps):
        taught = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in head.parameters()]
        assert all(taught) if place in won else not any(taught)
    # All are scored.
    assert bool((learned.iou_prediction_head.layers[-1].bias.grad != 0).all())
    # Weights that have learned to offer them go on learning it.
    assert "candidates" in InteractiveNetwork(network, clicking)(image, label, seed)
    # A step that only leads to others is answered as at inference.
    assert "candidates" not in InteractiveNetwork(network, clicking, rehearsed=1)(image, label, seed)


def test_the_loss_counts_the_best_candidate_and_the_scores_of_all():
    target = cube_of(8)
    right = (2 * target - 1) * 20
    wrong = -right
    answers = {"target": target, "logits": right[None], "iou": torch.ones(1, 1)}
    offered = {
        "candidates": torch.cat([wrong, right], 1),
        "scores": torch.tensor([[0.0, 1]]),
        "best": torch.tensor([1]),
    }
    assert float(InteractiveLoss()({**answers, **offered})) < 1e-3
    # Half of the squared error of both, and log 2 where both are as likely to be chosen.
    missed = {**offered, "scores": torch.tensor([[1.0, 1]])}
    expected = 0.4 * (0.5 + 0.15 * np.log(2))
    assert float(InteractiveLoss(choice_weight=0.4)({**answers, **missed})) == pytest.approx(expected, abs=1e-3)
    assert float(InteractiveLoss()({**answers, **offered, "best": torch.tensor([0])})) > 1
