# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A clicked voxel is as clicked, whatever the network answers, and in whichever cube it lies."""

import itertools

import numpy as np
import pytest
import torch
from stand_in import ThresholdNetwork
from volumes import grid_around, rotation

from bundles.fastsam3d.scripts.inference.honoured import SURE, honoured
from bundles.fastsam3d.scripts.inference.segment import Segmenter


class Stubborn(ThresholdNetwork):
    """Says the same everywhere but in one cell, whatever is clicked."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def decode(self, embedding, points, labels, boxes=None, masks=None, multimask=False, rounds=1):
        size = [4 * n for n in embedding.features.shape[2:]]
        logits = torch.full((len(points), 1, *size), self.logit)
        logits[..., size[0] // 2, size[1] // 3, size[2] // 3] = 5
        return logits, torch.full((len(points), 1), 0.5)


def segment(grid, voxels, labels, network):
    asked = {"points": [list(v) for v in voxels], "point_labels": labels}
    return Segmenter(32, 1.0, amp=False).segment(torch.rand(grid.shape), grid.affine, asked, network)


AFFINES = {
    "oblique": rotation(20, -35, 50) @ np.diag([0.9, 1.3, 2.5]),
    "flipped": np.diag([-1.0, 2.0, -1.5]),
    "permuted": np.array([[0, 0, 1.1], [2.2, 0, 0], [0, -0.8, 0]]),
}


@pytest.mark.parametrize("logit", [-5.0, 5.0])
@pytest.mark.parametrize("name", AFFINES)
def test_clicks_anywhere_in_the_volume(name, logit):
    grid = grid_around(AFFINES[name], (41, 37, 33))
    rng = np.random.default_rng(3)
    # Corners, edges, faces and the middle, too far apart to lie between the same cells.
    voxels = rng.permutation(list(itertools.product((0, 20, 40), (0, 18, 36), (0, 16, 32)))).tolist()
    labels = [1, *rng.integers(0, 2, len(voxels) - 1).tolist()]
    found = segment(grid, voxels, labels, Stubborn(logit))
    mask = found.labels
    assert [int(mask[tuple(v)]) for v in voxels] == labels
    (told,) = found.summary["objects"]
    assert "did not follow" in told["notes"][0]
    # Nothing but what lies around clicks is changed.
    assert abs(float(mask.float().mean()) - (logit > 0)) < 0.2


def test_a_click_on_the_very_border_of_the_first_cube():
    """Where the coarser cube takes over: in one of the two cubes it has to count."""
    grid = grid_around(np.diag([1.0, 1.0, 1.0]), (60, 60, 60))
    for distance in (14, 15, 16, 17):
        voxels, labels = [(30, 30, 30), (30 + distance, 30, 30), (30, 30 - distance, 30)], [1, 0, 0]
        mask = segment(grid, voxels, labels, Stubborn(5.0)).labels
        assert [int(mask[v]) for v in voxels] == labels, distance


def test_what_is_right_stays_the_very_tensor():
    logits = torch.randn(1, 6, 7, 8)
    places = torch.rand(5, 3) * torch.tensor([5.0, 6, 7])
    said = torch.stack([interpolated(logits, p) > 0 for p in places]).long()
    assert honoured(logits, places, said)[0] is logits and honoured(logits, places, said)[1] == 0


def test_where_nothing_was_found_nothing_is_made_up():
    logits = torch.full((1, 6, 6, 6), -5.0)
    assert honoured(logits, torch.full((1, 3), 2.0), torch.tensor([1])) == (logits, 0)


def test_only_the_cells_around_a_click_change():
    logits = torch.full((1, 6, 6, 6), -5.0)
    logits[0, 0, 0, 0] = 1
    before = logits.clone()
    changed, count = honoured(logits, torch.tensor([[2.25, 3.5, 1.0], [4.0, 4, 4]]), torch.tensor([1, 0]))
    where = (changed != logits)[0].nonzero()
    assert where.amin(0).tolist() == [2, 3, 1] and where.amax(0).tolist() == [3, 4, 2] and (changed[0, 2, 3, 1]) == SURE
    assert count == 1 and torch.equal(logits, before)


def test_of_contradicting_clicks_the_newest_counts():
    logits = torch.zeros(1, 6, 6, 6)
    logits[0, 0, 0, 0] = 1
    places = torch.tensor([[2.2, 2.2, 2.2], [2.4, 2.4, 2.4], [2.3, 2.3, 2.3]])
    for labels in ([1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]):
        found, _ = honoured(logits, places, torch.tensor(labels))
        assert (interpolated(found, places[2]) > 0) == bool(labels[2])


def interpolated(logits, place):
    size = torch.tensor(logits.shape[1:])
    where = (2 * place / (size - 1) - 1).flip(0).view(1, 1, 1, 1, 3)
    return torch.nn.functional.grid_sample(logits[None], where, align_corners=True).flatten()[0]
