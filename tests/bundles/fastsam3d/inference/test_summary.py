# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What is said of an object without a voxel: no other object is blamed where there is none."""

import numpy as np
import pytest
import torch
from volumes import grid_around

from bundles.fastsam3d.scripts.common.geometry import Grid, cube_around
from bundles.fastsam3d.scripts.common.prompts import ObjectPrompt
from bundles.fastsam3d.scripts.inference.scene import Scene
from bundles.fastsam3d.scripts.inference.search import Look, Stage, View
from bundles.fastsam3d.scripts.inference.summary import summarise
from bundles.fastsam3d.scripts.inference.target import Target

# Slices at -10, 0, 10 and 20 mm; the layers of cells are 1 mm apart, the first one at -15.5 mm.
IMAGE = grid_around(np.diag([1.0, 1.0, 10.0]), (30, 30, 4), (0, 0, 5))


def notes_of(*layers: int) -> list[str]:
    """Of an object without a voxel of which the network found these layers of cells."""
    cube = cube_around(np.zeros(3), 1.0, 32)
    logits = torch.full((1, 32, 32, 32), -1.0)
    logits[0, 8:24, 8:24, list(layers)] = 1.0
    look = Look(Stage.CLICKS, cube, 1, 1, "first prompt")
    view = View(look, Grid(cube.affine, (32,) * 3), logits, torch.ones(32, 32, 32, dtype=torch.bool), 0.5)
    scene = Scene(torch.zeros(1, *IMAGE.shape), IMAGE, [], {}, [], "content", False)
    target = Target(ObjectPrompt("a"), np.zeros((1, 3)), np.ones(1, int), np.zeros(1, int), None, cube)
    (described,) = summarise(scene, [target], [[view]], [3600, 0], [0.5])["objects"]
    return described["notes"]


@pytest.mark.parametrize(
    ("layers", "said"),
    [((), "the network found nothing"), ((15, 16), "other objects cover"), ((21,), "lies between the voxels")],
)
def test_an_object_without_a_voxel(layers, said):
    # The layers of cells 15 and 16 lie around a slice, the others between two.
    (note,) = notes_of(*layers)
    assert said in note
