# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

import numpy as np
import torch
from torch.nn import functional as F

from bundles.fastsam3d.scripts.training.cubes import Volume
from common.geometry import Grid
from tools.click_scores import score_object


class Threshold:
    """Stands for a network: what is brighter than the mean is the object, less a corner until clicked twice."""

    def encode(self, image):
        return F.avg_pool3d(image, 2)

    def decode(self, embedding, points, labels, boxes=None, masks=None):
        assert points.shape[:2] == labels.shape
        assert (masks is None) == (points.shape[1] == 1)
        logits = embedding.clone()
        if points.shape[1] < 2:
            logits[..., 32:] = -1
        return logits, torch.zeros(1, 1)


def test_dice_rises_with_the_click_that_corrects():
    image = torch.zeros(1, 40, 40, 40)
    image[:, 8:32, 8:32, 8:32] = 1
    grid = Grid(np.diag([2.0, 2.0, 2.0, 1.0]), (40, 40, 40))
    volume = Volume(image, (3 * image).to(torch.uint8), grid, (0.0, 1.0), ((3,),), "cube")
    scores = score_object(Threshold(), volume, (3,), 3)
    assert len(scores) == 3
    assert scores[0] < 0.75
    assert scores[1] > 0.9
