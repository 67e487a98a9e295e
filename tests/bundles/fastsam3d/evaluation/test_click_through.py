# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The simulated person: where they click, and when they stop."""

import numpy as np
import pytest

from bundles.fastsam3d.scripts.evaluation.click_through import best_and_worst, click_through

TRUTH = np.zeros((30, 30, 30), bool)
TRUTH[4:15, 4:15, 4:15] = True
LOBE = np.zeros_like(TRUTH)
LOBE[15:20, 7:12, 7:12] = True
SURPLUS = np.zeros_like(TRUTH)
SURPLUS[20:27, 20:27, 20:27] = True


def steps(answers, count=5, truth=TRUTH | LOBE, spacing=(1, 1, 1)):
    """The steps of a person whose segmenter answers with these masks, and what it was asked."""
    asked, answers = [], iter(answers)

    def segment(clicks):
        asked.append(list(clicks))
        return next(answers)

    return list(click_through(truth, segment, count, spacing)), asked


def test_each_click_is_in_the_largest_error_that_is_left():
    done, asked = steps([TRUTH | SURPLUS, TRUTH, TRUTH | LOBE])
    assert [s.click for s in done] == [((9, 9, 9), 1), ((23, 23, 23), 0), ((17, 9, 9), 1)]
    assert [len(clicks) for clicks in asked] == [1, 2, 3]
    assert asked[-1] == [s.click for s in done]
    np.testing.assert_array_equal(done[1].mask, TRUTH)
    assert all(s.seconds >= 0 for s in done)


def test_no_click_where_nothing_is_wrong():
    done, _ = steps([TRUTH | LOBE])
    assert len(done) == 1


def test_no_more_clicks_than_asked_for():
    done, _ = steps([TRUTH] * 9, count=4)
    assert [s.click.voxel for s in done] == [(9, 9, 9), *[(17, 9, 9)] * 3]


def test_depth_is_in_millimetres():
    """Slices of 5 mm: the flat object's middle is where its slices are widest, not where they are most."""
    truth = np.zeros((40, 40, 8), bool)
    truth[2:8, 2:8, 0:8] = True
    truth[15:35, 15:35, 3:5] = True
    (voxel, _), _, _ = steps([truth], truth=truth, spacing=(1, 1, 5))[0][0]
    assert voxel[2] in (3, 4) and 15 < voxel[0] < 34


def test_best_and_worst():
    rows = [{"dice": d, "n": i} for i, d in enumerate((0.5, 0.9, 0.1, 0.9, 0.1))]
    assert [r["n"] for r in best_and_worst(rows, "dice", 2)] == [1, 3, 2, 4]
    assert [r["n"] for r in best_and_worst(rows[:1], "dice", 2)] == [0, 0]
    assert best_and_worst(rows, "dice", 0) == []


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_extreme_in_the_end_was_when_it_came(count):
    rng = np.random.default_rng(0)
    rows = [{"dice": d} for d in rng.integers(0, 6, 40) / 6]
    final = best_and_worst(rows, "dice", count)
    for i, row in enumerate(rows):
        if any(row is r for r in final):
            assert any(row is r for r in best_and_worst(rows[: i + 1], "dice", count))
