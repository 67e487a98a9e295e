# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A right click adds what is at it, and does not flood the image."""

import torch

from bundles.fastsam3d.scripts.inference.growth import BESIDE, LEAST_REACH, REACH, corrected_at, grown_around


def block(start: int, stop: int, others: tuple[int, int] = (10, 14)) -> torch.Tensor:
    """(1, 24, 24, 24) logits, positive from ``start`` to ``stop`` along the first axis."""
    logits = torch.full((1, 24, 24, 24), -3.0)
    logits[0, start:stop, slice(*others), slice(*others)] = 3.0
    return logits


def test_only_the_piece_at_the_click_is_added():
    last, apart = block(2, 6), block(18, 20)
    found = torch.maximum(block(2, 9), apart)
    grown = corrected_at(last, found, torch.tensor([7.2, 11.6, 12.0]), True)
    assert torch.equal(grown > 0, block(2, 9) > 0)


def test_a_flood_ends_near_the_click():
    last = block(2, 6)
    grown = corrected_at(last, torch.full_like(last, 5.0), torch.tensor([7.0, 12.0, 12.0]), True) > 0
    added = grown & (last <= 0)
    # The radius of a ball of 4 * 4 * 4 cells is 2.5: fewer than may be added at least.
    far = (torch.nonzero(added[0]) - torch.tensor([7, 12, 12])).double().norm(dim=1).max()
    assert 2 < far <= LEAST_REACH and (grown | (last <= 0)).all()


def test_a_click_that_the_answer_does_not_follow_adds_nothing():
    last, found = block(2, 6), block(2, 20)
    assert torch.equal(corrected_at(last, found, torch.tensor([15.0, 4.0, 4.0]), True), last)


def test_a_click_beside_the_mask_changes_little_and_one_far_from_it_much():
    last = block(0, 12, (4, 20))
    found = torch.maximum(block(0, 21, (4, 20)), block(22, 24, (4, 20)))
    # Nearly twice the mask in all, and as much by either click.
    far = corrected_at(last, found, torch.tensor([11 + BESIDE, 12.0, 12.0]), True) > 0
    assert torch.equal(far, found > 0)
    beside = corrected_at(last, found, torch.tensor([10.9 + BESIDE, 12.0, 12.0]), True) > 0
    added = torch.nonzero((beside & (last <= 0))[0]) - torch.tensor([10.9 + BESIDE, 12, 12])
    radius = (3 * 12 * 16 * 16 / (4 * torch.pi)) ** (1 / 3)
    assert len(added) and LEAST_REACH < added.double().norm(dim=1).max() <= REACH * radius


def test_a_small_change_is_taken_as_it_is():
    last, found = block(2, 12), torch.maximum(block(2, 14), block(20, 21))
    assert torch.equal(corrected_at(last, found, torch.tensor([13.0, 12.0, 12.0]), True) > 0, found > 0)
    assert torch.equal(grown_around(last, found, torch.zeros(0, 3)), found)
    less = block(2, 9)
    assert torch.equal(corrected_at(last, less, torch.tensor([11.0, 12.0, 12.0]), False) > 0, less > 0)


def test_a_background_click_does_not_wipe_out_the_object():
    last = block(0, 24)
    left = corrected_at(last, torch.full_like(last, -5.0), torch.tensor([2.0, 12.0, 12.0]), False) > 0
    assert not left[0, 2, 12, 12] and torch.equal(left[0, 9:], last[0, 9:] > 0)


def test_where_nothing_was_found_the_whole_piece_is_taken():
    nothing, found = torch.full((1, 24, 24, 24), -1.0), torch.maximum(block(0, 20), block(0, 3, (20, 23)))
    assert torch.equal(corrected_at(nothing, found, torch.tensor([1.0, 12.0, 12.0]), True) > 0, block(0, 20) > 0)


def test_around_a_finer_cube():
    last, flood = block(8, 16, (8, 16)), torch.full((1, 24, 24, 24), 5.0)
    inside = torch.maximum(block(8, 22, (8, 16)), block(0, 2, (0, 2)))
    none = torch.zeros(0, 3)
    # What goes on from the mask is taken, and what lies apart is not, unless it is clicked.
    assert torch.equal(grown_around(last, inside, none) > 0, block(8, 22, (8, 16)) > 0)
    assert torch.equal(grown_around(last, inside, torch.tensor([[0.0, 1.0, 1.0]])) > 0, inside > 0)
    assert 0.3 < float((grown_around(last, flood, none) > 0).float().mean()) < 0.95
    # What the answer takes away stays away.
    assert torch.equal(grown_around(last, block(8, 12, (8, 16)), none) > 0, block(8, 12, (8, 16)) > 0)
