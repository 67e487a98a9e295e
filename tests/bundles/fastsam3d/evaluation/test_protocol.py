# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""First prompts of each kind, and the numbers that an evaluation reports."""

import numpy as np
import pytest

from bundles.fastsam3d.scripts.evaluation.click_through import click_through
from bundles.fastsam3d.scripts.evaluation.protocol import Protocol

SPACING = (1.0, 1.0, 3.0)
# An L in six slices, longer along the first axis, and a thin rod beside it.
TRUTH = np.zeros((30, 24, 12), bool)
TRUTH[4:20, 5:11, 3:9] = True
TRUTH[4:8, 11:14, 3:9] = True
TRUTH[25:27, 18:20, 3:9] = True


def drawn(first):
    prompt, masks = Protocol(first=first).first_prompt("organ", TRUTH, SPACING)
    return prompt, masks


def test_a_box_holds_the_object_and_nothing_around_it():
    prompt, masks = drawn("box")
    assert prompt.box == ((4, 5, 3), (26, 19, 8)) and not masks and not prompt.points


def test_a_flat_box_holds_the_piece_in_the_middle_slice():
    low, high = drawn("flat_box")[0].box
    assert low[2] == high[2]
    assert (low[:2], high[:2]) == ((4, 5), (19, 13))


def test_a_scribble_is_a_straight_stroke_inside_the_object():
    prompt, masks = drawn("scribble")
    stroke = masks[prompt.scribble]
    voxels = np.argwhere(stroke)
    assert stroke.dtype == np.uint8 and stroke.shape == TRUTH.shape and TRUTH[stroke > 0].all()
    assert len(voxels) == 16 and len(np.unique(voxels[:, 1:], axis=0)) == 1


def test_a_lasso_is_the_piece_in_the_middle_slice():
    prompt, masks = Protocol(first="lasso").first_prompt("organ", TRUTH, SPACING)
    lasso = masks[prompt.lasso] > 0
    (z,) = np.unique(np.argwhere(lasso)[:, 2])
    piece = TRUTH[..., z].copy()
    piece[25:] = False
    np.testing.assert_array_equal(lasso[..., z], piece)


def test_after_a_first_prompt_every_click_corrects():
    surplus = np.zeros_like(TRUTH)
    surplus[22:29, 2:9, 1:4] = True
    answers, asked = iter([TRUTH | surplus, TRUTH]), []

    def segment(clicks):
        asked.append(list(clicks))
        return next(answers)

    done = list(click_through(TRUTH, segment, 5, SPACING, prompted=True))
    assert [s.click and s.click.label for s in done] == [None, 0] and [len(a) for a in asked] == [0, 1]


def test_areas_are_of_trapezoids_from_the_first_click_to_the_fifth():
    protocol = Protocol("cvpr25", "box", (1, 2, 3, 4, 5))
    assert protocol.counts == (0, 1, 2, 3, 4, 5)
    dice = [0.1, 0.2, 0.6, 0.8, 0.85, 0.95]
    scores = {f"{metric}@{k}": v for metric in ("dice", "nsd") for k, v in enumerate(dice)}
    found = protocol.derived(scores, dice)
    assert found["dice_auc"] == pytest.approx(0.4 + 0.7 + 0.825 + 0.9) and found["nsd_final"] == 0.95
    perfect = protocol.derived(dict.fromkeys(scores, 1.0), [1.0])
    assert perfect["dice_auc"] == perfect["nsd_auc"] == 4
    assert set(found) | set(scores) <= set(protocol.numbers)


@pytest.mark.parametrize(
    ("first", "dice", "clicks"),
    [
        ("click", [0.9], 1),
        ("click", [0.2, 0.849, 0.85], 3),
        ("click", [0.2, 0.9, 0.1], 2),
        ("click", [0.2] * 10, 10),
        ("box", [0.9], 0),
        ("box", [0.1, 0.86], 1),
        ("box", [0.1] * 11, 10),
    ],
)
def test_clicks_to_reach_a_good_dice(first, dice, clicks):
    protocol = Protocol(first=first)
    found = protocol.derived({f"dice@{k}": 0.8 for k in protocol.counts}, dice)
    assert found["noc@85"] == clicks


def test_shares_are_of_what_lies_above():
    found = Protocol().derived({"dice@1": 0.8, "dice@3": 0.81, "dice@5": 0.9, "dice@10": 0.91}, [0.8])
    assert [found[f"dice_above_0.8@{k}"] for k in (1, 3, 5, 10)] == [0, 1, 1, 1]
    assert [found[f"dice_above_0.9@{k}"] for k in (1, 3, 5, 10)] == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cvpr24"}, "expected clicks or cvpr25"),
        ({"first": "guess"}, "one of click, box, flat_box, scribble, lasso"),
        ({"clicks": (3, 1)}, "expected rising numbers"),
        ({"name": "cvpr25"}, r"expected box and \[1, 2, 3, 4, 5\]"),
    ],
)
def test_protocols_that_are_none(arguments, message):
    with pytest.raises(ValueError, match=message):
        Protocol(**arguments)
