# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

import math
import time
import warnings

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

from common.metrics import diagonal, false_positive, mask_scores


def brick(shape, *slices):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*s) for s in slices)] = True
    return mask


def test_a_brick_shifted_along_one_axis():
    """4 x 4 x 4 voxels, 1 x 2 x 3 mm, moved by one voxel of 2 mm: 48 of 64 voxels are common."""
    truth, moved = brick((12, 12, 12), (4, 8), (4, 8), (4, 8)), brick((12, 12, 12), (4, 8), (5, 9), (4, 8))
    scores = mask_scores(moved, truth, (1.0, 2.0, 3.0), tolerance=1.0)
    assert scores["dice"] == pytest.approx(0.75)
    assert scores["iou"] == pytest.approx(48 / 80)
    # Each shell has 16 + 12 + 12 + 16 voxels in its layers of y. Of the moved one's, those in the last layer lie 2 mm
    # off; the four inner ones of its first layer have the truth's shell beside them along x, at 1 mm.
    assert scores["nsd"] == pytest.approx(2 * 40 / (2 * 56))
    assert surface_dice(moved, truth, (1.0, 2.0, 3.0), 1.0) == pytest.approx(2 * 40 / (2 * 56))
    assert scores["hd95"] == pytest.approx(2.0)
    assert mask_scores(moved, truth, (1.0, 2.0, 3.0), tolerance=2.0)["nsd"] == 1.0


def surface(mask):
    """Voxels with a face on the outside, by six comparisons."""
    padded = np.pad(mask, 1)
    inner = padded.copy()
    for axis in range(mask.ndim):
        for step in (1, -1):
            inner &= np.roll(padded, step, axis)
    return mask & ~inner[(slice(1, -1),) * mask.ndim]


def directed_distances(a, b, spacing):
    places_a, places_b = (np.argwhere(surface(m)) * np.array(spacing) for m in (a, b))
    return np.linalg.norm(places_a[:, None] - places_b[None], axis=-1).min(axis=1)


def surface_dice(a, b, spacing, tolerance):
    distances = np.concatenate([directed_distances(a, b, spacing), directed_distances(b, a, spacing)])
    return float((distances <= tolerance).mean())


@pytest.mark.parametrize(("shape", "spacing"), [((20, 18, 9), (0.8, 0.9, 3.0)), ((40, 33), (0.5, 1.25))])
def test_against_all_pairs_of_surface_voxels(shape, spacing):
    rng = np.random.default_rng(5)
    truth = brick(shape, *((1, n - 3) for n in shape)) & (rng.random(shape) < 0.8)
    prediction = brick(shape, *((0, n - 5) for n in shape)) & (rng.random(shape) < 0.7)
    scores = mask_scores(torch.from_numpy(prediction), torch.from_numpy(truth), spacing, tolerance=0.7)
    assert scores["dice"] == pytest.approx(2 * (truth & prediction).sum() / (truth.sum() + prediction.sum()))
    assert scores["nsd"] == pytest.approx(surface_dice(prediction, truth, spacing, 0.7))
    ways = [
        np.percentile(directed_distances(*pair, spacing), 95) for pair in ((prediction, truth), (truth, prediction))
    ]
    assert scores["hd95"] == pytest.approx(max(ways))
    batch = [torch.from_numpy(m)[None, None] for m in (prediction, truth)]
    options = {"include_background": True, "spacing": spacing}
    assert scores["nsd"] == pytest.approx(float(compute_surface_dice(*batch, [0.7], **options)))
    assert scores["hd95"] == pytest.approx(float(compute_hausdorff_distance(*batch, percentile=95, **options)))


def test_equal_masks_and_apart_ones():
    mask = brick((10, 10, 10), (0, 4), (0, 10), (3, 4))
    assert mask_scores(mask, mask, (1, 1, 1)) == {"dice": 1.0, "iou": 1.0, "nsd": 1.0, "hd95": 0.0}
    one, other = brick((10, 10), (0, 1), (0, 1)), brick((10, 10), (3, 4), (4, 5))
    assert mask_scores(one, other, (1, 1)) == {"dice": 0.0, "iou": 0.0, "nsd": 0.0, "hd95": 5.0}


def test_an_empty_prediction_is_the_worst_there_is():
    truth = brick((31, 41, 13), (2, 6), (3, 9), (4, 7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = mask_scores(np.zeros_like(truth), truth, (1.0, 1.0, 2.0))
    assert scores == {"dice": 0.0, "iou": 0.0, "nsd": 0.0, "hd95": math.sqrt(30**2 + 40**2 + 24**2)}
    far = np.zeros_like(truth)
    far[-1, -1, -1] = True
    assert mask_scores(far, truth, (1.0, 1.0, 2.0))["hd95"] < scores["hd95"]


def test_absent_truth_has_no_scores_but_a_size():
    prediction = brick((6, 6, 6), (0, 2), (0, 3), (0, 4))
    with pytest.raises(ValueError, match="truth has no voxel.*false_positive"):
        mask_scores(prediction, np.zeros_like(prediction), (1, 1, 1))
    assert false_positive(prediction, (0.5, 1, 2)) == {"predicted_voxels": 24, "predicted_size": 24.0}
    assert false_positive(np.zeros((4, 4)), (1, 1)) == {"predicted_voxels": 0, "predicted_size": 0.0}


@pytest.mark.parametrize(
    ("shapes", "spacing", "message"),
    [
        (((4, 4, 4), (4, 4, 5)), (1, 1, 1), r"shape \(4, 4, 4\), truth of \(4, 4, 5\)"),
        (((4,), (4,)), (1,), "expected one shape in 2D or 3D"),
        (((4, 4), (4, 4)), (1, 1, 1), "expected 2 positive numbers"),
        (((4, 4), (4, 4)), (1, 0), "expected 2 positive numbers"),
        (((4, 4), (4, 4)), (1, float("nan")), "expected 2 positive numbers"),
    ],
)
def test_wrong_input(shapes, spacing, message):
    with pytest.raises(ValueError, match=message):
        mask_scores(np.ones(shapes[0], bool), np.ones(shapes[1], bool), spacing)


def test_diagonal():
    assert diagonal((4, 5), (1, 1)) == 5.0
    assert diagonal((1, 1, 1), (1, 1, 1)) == 0.0


def test_a_large_volume_costs_what_its_object_costs():
    """An organ of 60 x 60 x 60 voxels in 512 x 512 x 200: most of the time goes into finding where it is."""
    truth = torch.zeros(512, 512, 200, dtype=torch.bool)
    truth[200:260, 200:260, 80:140] = True
    prediction = truth.roll(2, 0)
    start = time.perf_counter()
    scores = mask_scores(prediction, truth, (0.8, 0.8, 2.0))
    assert time.perf_counter() - start < 5
    assert scores["dice"] == pytest.approx(58 / 60)
