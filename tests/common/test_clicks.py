# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

import numpy as np
import pytest

from common.clicks import deepest_point, error_click, random_inner_point


def box(shape, low, high):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


def ball(shape, center, radius):
    return sum((a - c) ** 2 for a, c in zip(np.ogrid[[slice(n) for n in shape]], center, strict=True)) <= radius**2


@pytest.mark.parametrize("center", [(10, 12, 14), (20, 9, 11)])
def test_deepest_point_of_a_ball_is_its_centre(center):
    assert deepest_point(ball((32, 30, 28), center, 7)) == center


def test_deepest_point_counts_the_image_border_as_border():
    # A slab against the border is deepest in its own middle, not at the border.
    assert deepest_point(box((20, 9, 9), (0, 0, 0), (7, 9, 9)))[0] == 3


def test_deepest_point_takes_the_lowest_index_of_several():
    assert deepest_point(np.ones((4, 4, 4), bool)) == (1, 1, 1)


def test_depth_is_counted_in_millimetres():
    """A flat part is deeper in voxels, a part of few thick slices in mm."""
    flat = box((40, 40, 12), (2, 2, 0), (13, 13, 11))
    thick = box(flat.shape, (20, 20, 2), (36, 36, 7))
    assert flat[deepest_point(flat | thick)]
    assert deepest_point(flat | thick, (1, 1, 3)) == (27, 27, 4)
    assert error_click(np.zeros_like(flat), thick | flat, spacing=(1, 1, 3)).voxel[:2] == (7, 7)
    assert error_click(flat, thick | flat, spacing=(1, 1, 3)) == ((27, 27, 4), 1)


def test_deepest_point_lies_inside_a_shell():
    shell = ball((40, 40, 40), (20, 20, 20), 15) & ~ball((40, 40, 40), (20, 20, 20), 8)
    assert shell[deepest_point(shell)]


def test_deepest_point_of_nothing():
    with pytest.raises(ValueError, match="empty"):
        deepest_point(np.zeros((4, 4, 4), bool))


def test_the_larger_error_is_clicked_and_labelled():
    target = box((40, 20, 20), (2, 2, 2), (12, 12, 12))
    prediction = target & ~box(target.shape, (2, 2, 2), (5, 5, 5)) | box(target.shape, (25, 5, 5), (34, 14, 14))
    surplus = error_click(prediction, target)
    assert surplus.voxel == (29, 9, 9)
    assert surplus.label == 0
    missing = error_click(np.zeros_like(target), target)
    assert target[missing.voxel]
    assert missing.label == 1


def test_the_largest_piece_counts_not_the_sum_of_pieces():
    target = np.zeros((60, 10, 10), bool)
    for start in range(0, 40, 8):
        target |= box(target.shape, (start, 0, 0), (start + 4, 4, 4))
    prediction = box(target.shape, (50, 2, 2), (55, 7, 7))
    assert error_click(prediction, target).voxel == (52, 4, 4)


@pytest.mark.parametrize("how", ["distance", "random"])
def test_random_forms_click_errors_and_follow_the_generator(how):
    target = ball((30, 30, 30), (14, 14, 14), 9)
    prediction = ball((30, 30, 30), (17, 14, 14), 9)
    clicks = [error_click(prediction, target, how, np.random.default_rng(s)) for s in range(20)]
    assert clicks == [error_click(prediction, target, how, np.random.default_rng(s)) for s in range(20)]
    assert len(set(clicks)) > 5
    assert all((prediction != target)[c.voxel] and c.label == target[c.voxel] for c in clicks)


def test_inner_points_keep_away_from_the_border():
    target = ball((30, 30, 30), (14, 14, 14), 10)
    places = np.array([random_inner_point(target, np.random.default_rng(s)) for s in range(30)])
    assert np.linalg.norm(places - 14, axis=1).max() < 6.5


def test_no_error_no_click():
    target = ball((20, 20, 20), (9, 9, 9), 5)
    assert error_click(target.copy(), target) is None


def test_two_axes_work_too():
    assert deepest_point(ball((20, 20), (8, 11), 5)) == (8, 11)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": np.ones((3, 3, 4), bool)}, "shape"),
        ({"how": "nearest"}, "nearest"),
        ({"how": "random"}, "default_rng"),
    ],
)
def test_bad_arguments(arguments, message):
    ones = np.ones((3, 3, 3), bool)
    with pytest.raises(ValueError, match=message):
        error_click(**{"prediction": ~ones, "target": ones, **arguments})
