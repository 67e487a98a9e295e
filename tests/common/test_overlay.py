# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Overlays: the label's colour where the label is, rows down, one picture beside the other."""

import numpy as np
import pytest
from matplotlib.image import imread

from common.overlay import Picture, colour, save_overlay


def test_the_colour_is_where_the_label_is(tmp_path):
    image, labels = np.full((60, 100), 90, np.uint8), np.zeros((60, 100), np.uint8)
    labels[5:20, 60:90] = 9
    save_overlay(tmp_path / "a.png", [Picture(image, labels)], {9: "polyp"})
    drawn = imread(tmp_path / "a.png")[..., :3]
    # Enlarged four times, with a title's room of 22 pixels above.
    inside, outside = drawn[22 + 4 * 12, 4 * 75], drawn[22 + 4 * 45, 4 * 20]
    assert drawn.shape[1] == 400
    assert inside == pytest.approx(0.65 * 90 / 255 + 0.35 * np.array(colour(9)), abs=0.02)
    assert outside == pytest.approx(np.full(3, 90 / 255), abs=0.02)


def test_pictures_lie_beside_each_other_with_truth_clicks_and_boxes(tmp_path):
    image, labels = np.zeros((30, 30, 3)), np.zeros((30, 30), int)
    truth = labels.copy()
    truth[10:20, 10:20] = 1
    plain = Picture(image, labels)
    marked = Picture(image, labels, "a", truth, 1.0, [((4, 4), 1), ((9, 25), 0)], [(2, 2, 28, 28)])
    for pictures, columns, rows in (([plain], 1, 1), ([plain, marked], 2, 1), ([marked] * 5, 4, 2)):
        save_overlay(tmp_path / "a.png", pictures, {})
        drawn = imread(tmp_path / "a.png")
        assert drawn.shape[1] == 400 * columns and drawn.shape[0] // 400 == rows
    # The last of the five is black but for what was marked in it: as much as in the first.
    assert (drawn[444:844, :400, :3] > 0.5).sum() == pytest.approx((drawn[22:422, :400, :3] > 0.5).sum(), rel=0.02)


def test_large_images_are_reduced_with_their_marks(tmp_path):
    image, labels = np.zeros((1500, 3000), np.uint8), np.zeros((1500, 3000), np.uint8)
    labels[300:600, 1500:2400] = 1
    save_overlay(tmp_path / "a.png", [Picture(image, labels, boxes=[(300, 900, 900, 1200)])], {1: "polyp"})
    drawn = imread(tmp_path / "a.png")[..., :3]
    # Every third pixel.
    assert drawn.shape[1] == 1000 and (drawn[22 + 150, 650] > 0).any() and not drawn[22 + 150, 450].any()
    assert (drawn[22 + 350, 97:104] > 0.2).any() and not drawn[22 + 350, 150:250].any()


def test_colours_differ():
    colours = {tuple(round(c, 2) for c in colour(v)) for v in range(1, 41)}
    assert len(colours) == 40
