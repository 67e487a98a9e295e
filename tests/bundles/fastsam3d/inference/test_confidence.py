# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Probabilities, and what they say of a mask."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from two_balls import GRID, LEFT, PAIR, RIGHT, TRUTH
from volumes import write_nifti

from bundles.fastsam3d.scripts.inference.confidence import predicted_iou, probabilities
from bundles.fastsam3d.scripts.inference.search import View
from bundles.fastsam3d.scripts.networks.drawing import LARGEST_LOGIT
from common.geometry import cube_around


def view(logits: torch.Tensor, spacing: float = 1.0, score: float | None = 1.0) -> View:
    grid = cube_around((0, 0, 0), spacing, len(logits))
    return View(None, grid, logits[None], torch.ones(logits.shape, dtype=torch.bool), score)


def test_probabilities_of_a_temperature():
    logits = torch.tensor([-LARGEST_LOGIT, -2.0, 0.0, 2.0, 30.0])
    found = probabilities(logits, 2.0)
    assert found.tolist() == pytest.approx([0, 1 / (1 + np.e), 0.5, 1 / (1 + np.exp(-1)), 1], abs=1e-5)


def test_the_expected_iou_of_voxels_that_are_known():
    logits = torch.full((4, 4, 4), -LARGEST_LOGIT)
    logits[0] = 50.0
    assert predicted_iou([view(logits)], 1.0) == pytest.approx(1.0)
    assert predicted_iou([view(logits, score=0.7)], 1.0) == pytest.approx(0.7)
    # As many voxels again that are the object's with probability 0.5, outside the mask: 16 / (16 + 8).
    logits[1] = 0.0
    assert predicted_iou([view(logits)], 1.0) == pytest.approx(2 / 3)
    assert predicted_iou([view(logits, score=None)], 1.0) is None
    assert predicted_iou([view(torch.full((4, 4, 4), -5.0))], 1.0) == 0.0


def test_a_coarser_cube_counts_around_the_finer_one():
    fine, coarse = torch.full((4, 4, 4), 50.0), torch.full((8, 8, 8), 50.0)
    coarse[2:6, 2:6, 2:6] = 0.0
    both = [view(fine, 0.5), view(coarse, 0.5)]
    assert predicted_iou(both, 1.0) == pytest.approx(1.0), "what the coarser one doubts there is known better"
    assert predicted_iou(both[1:], 1.0) < 1


@pytest.mark.parametrize("count", [1, 2])
def test_probabilities_as_a_volume(run_workflow, tmp_path, count):
    image = write_nifti(tmp_path / "x.nii.gz", PAIR.image(GRID), GRID)
    asked = {"left": [LEFT], "right": [RIGHT]}
    asked = {name: asked[name] for name in list(asked)[:count]}
    folder = run_workflow(image=str(image), objects=asked, probabilities=True)
    described = json.loads((folder / "x_seg.json").read_text())
    assert described["probabilities"] == "x_seg_probabilities.nii.gz"
    written = nib.load(folder / described["probabilities"])
    values = np.asarray(written.dataobj)
    assert written.get_data_dtype() == np.float32 and np.allclose(written.affine, GRID.affine, atol=1e-4)
    assert values.shape == (GRID.shape if count == 1 else (*GRID.shape, 2))
    labels = np.asarray(nib.load(folder / "x_seg.nii.gz").dataobj)
    for value in range(count):
        one = values if count == 1 else values[..., value]
        mask = labels == value + 1
        assert one.min() >= 0 and one.max() <= 1 and not (mask & (one <= 0.5)).any()
        # Of several objects the likelier one has a voxel.
        assert count > 1 or np.array_equal(one > 0.5, mask)
        assert one[TRUTH[value]].mean() > one[~TRUTH[value]].mean() + 0.2
    # An earlier result is replaced by the same call, and by one without.
    run_workflow(image=str(image), objects=asked, probabilities=True, output_dir=str(folder))
