# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Clicks in the errors of many objects at once, as a GPU draws them, against those drawn one by one."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from bundles.fastsam3d.scripts.training import clicking, places
from bundles.fastsam3d.scripts.training.clicking import Clicking, Interaction
from bundles.fastsam3d.scripts.training.places import AllAtOnce, OneByOne, nth_true, squared_depth

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def scipy_depth(region):
    return ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1, 1:-1]


def generators(count, seed=0):
    return np.random.default_rng(seed).spawn(count)


@pytest.fixture
def masks():
    """Predictions and targets (5, 12, 13, 14): nothing found, too little, too much, both, nothing wrong."""
    targets = torch.zeros(5, 12, 13, 14, dtype=torch.bool)
    targets[:, 2:9, 3:10, 4:11] = True
    predictions = targets.clone()
    predictions[0] = False
    predictions[1, 2:5] = False
    predictions[2, 9:, 3:10] = True
    predictions[3, :4] = ~predictions[3, :4]
    return predictions, targets


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("at_once", [1, 1 << 27])
def test_the_depth_is_scipy_s(device, at_once, monkeypatch):
    monkeypatch.setattr(places, "AT_ONCE", at_once)
    regions = torch.rand(6, 9, 12, 7, generator=torch.Generator().manual_seed(0)) > 0.1
    regions[1], regions[2] = True, False
    regions[3], regions[3, 2:8, 3:11, 1:6] = False, True
    expected = np.stack([scipy_depth(r.numpy()) for r in regions])
    np.testing.assert_allclose(squared_depth(regions.to(device)).cpu().numpy(), expected**2, rtol=1e-6)


def test_the_true_value_at_a_share_of_them():
    rows = torch.tensor([[0, 1, 0, 1, 1, 0, 1], [0, 0, 1, 0, 0, 0, 0]], dtype=torch.bool)
    found = [nth_true(rows, torch.tensor([share, share])).tolist() for share in (0.0, 0.24, 0.25, 0.5, 0.99, 1.0)]
    assert found == [[1, 2], [1, 2], [3, 2], [4, 2], [6, 2], [6, 2]]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("form", ["deepest", "distance", "random"])
def test_every_click_says_something_new_and_true(masks, device, form):
    predictions, targets = masks
    wrong = predictions != targets
    for seed in range(20):
        arguments = (predictions.to(device), targets.to(device), [form] * 5, generators(5, seed))
        cells, labels = AllAtOnce().errors(*arguments)
        assert cells.device.type == "cpu" and cells.shape == (5, 3)
        for n, (x, y, z) in enumerate(cells.tolist()):
            assert labels[n] == targets[n, x, y, z]
            assert wrong[n, x, y, z] if n < 4 else targets[n, x, y, z]


def test_where_one_error_is_in_one_piece_the_deepest_points_agree(masks):
    predictions, targets = (x[:3] for x in masks)
    missed = predictions != targets
    both = [kind().errors(predictions, targets, ["deepest"] * 3, generators(3)) for kind in (OneByOne, AllAtOnce)]
    for n in range(3):
        depths = [scipy_depth(missed[n].numpy())[tuple(cells[n].tolist())] for cells, _ in both]
        assert depths[0] == depths[1] == scipy_depth(missed[n].numpy()).max()
    assert torch.equal(both[0][1], both[1][1])


@pytest.mark.parametrize("kind", [OneByOne, AllAtOnce])
def test_inner_clicks_lie_deep_in_the_larger_error(masks, kind):
    predictions, targets = masks
    for seed in range(10):
        cells, labels = kind().errors(predictions, targets, ["distance"] * 5, generators(5, seed))
        depth = scipy_depth((targets & ~predictions)[0].numpy())
        assert labels[0] == 1 and depth[tuple(cells[0].tolist())] > depth.max() / 2
        assert labels[2] == 0


@pytest.mark.parametrize("kind", [OneByOne, AllAtOnce])
def test_the_same_chance_gives_the_same_places_whatever_else_is_in_the_batch(masks, kind):
    _, targets = masks
    together = kind().within(targets, generators(5))
    alone = kind().within(targets[3:], generators(5)[3:])
    assert torch.equal(together[3:], alone)
    assert not torch.equal(together, kind().within(targets, generators(5, seed=1)))


def test_a_person_who_clicks_everywhere_at_once(monkeypatch):
    """All kinds of first prompts and corrections with the places of a GPU, on whatever device there is."""
    monkeypatch.setattr(clicking, "OneByOne", AllAtOnce)
    targets = torch.zeros(2, 1, 16, 16, 16)
    targets[0, :, 3:10, 3:10, 3:10], targets[1] = 1, 1
    how = Clicking(steps=3, promptless=0, clicks="paper", box=0.25, scribble=0.25, mask=0.25)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        state = Interaction(targets.to(DEVICES[-1]), 2, how, 3, rng, rng.spawn(2))
        for _ in range(2):
            before = state.points.shape[1]
            state.correct(torch.randn(2, 1, 16, 16, 16, device=DEVICES[-1]))
            x, y, z = (state.points[:, before] // 2).long().T
            assert (targets[torch.arange(2), 0, x, y, z] == state.labels[:, before]).all()
