# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Slices of volumes stored in any orientation: seen the same way, and put back where they were."""

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation
from volumes import rotation

from common.planes import PLANES, Plane

SHAPE = (5, 6, 7)
SIGNS = list(itertools.product((1.0, -1.0), repeat=3))
STORED = [np.diag([*signs, 1.0])[:, [*order, 3]] for order in ((0, 1, 2), (2, 0, 1)) for signs in SIGNS]
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = rotation(17, -20, 9) @ np.diag([0.7, 0.9, 3.0])
OBLIQUE[:3, 3] = 5, 6, 7


@pytest.mark.parametrize("affine", [*STORED, OBLIQUE])
@pytest.mark.parametrize("name", [*PLANES, 0, 1, "2"])
def test_slices_are_monais_orientation_and_come_back(affine, name):
    volume = torch.randperm(int(np.prod(SHAPE))).reshape(SHAPE)
    plane = Plane.of(affine, SHAPE, name)
    slices = plane.slices(volume)
    if name in PLANES:
        seen = Orientation(axcodes=PLANES[name], labels=None)(MetaTensor(volume[None], affine=affine))[0]
        assert torch.equal(slices, seen.as_tensor().permute(2, 1, 0))
    else:
        assert slices.shape[0] == SHAPE[int(name)]
    assert torch.equal(plane.volume(slices), volume)
    column, row, index = plane.point((4, 1, 3), SHAPE)
    assert slices[index, row, column] == volume[4, 1, 3]


def test_axial_slices_have_the_front_on_top_and_the_patients_right_on_the_left():
    stored = torch.zeros(SHAPE)
    stored[4, 5, 2] = 1  # with the identity as affine: the farthest to the right and to the front
    assert Plane.of(np.eye(4), SHAPE, "axial").slices(stored).nonzero().tolist() == [[2, 0, 0]]
    assert Plane.of(np.eye(4), SHAPE, "coronal").slices(stored).nonzero().tolist() == [[0, 4, 0]]


def test_spacing_and_names():
    assert Plane.of(np.eye(4), SHAPE, "sagittal").spacing((1, 2, 3)) == (2, 3, 1)
    assert Plane.of(np.eye(4), (5, 1, 7)) == Plane.of(np.eye(4), (5, 1, 7), "coronal")
    assert Plane.of(np.eye(4), SHAPE) == Plane.of(np.eye(4), (1, 1, 7)) == Plane.of(np.eye(4), SHAPE, "axial")
    with pytest.raises(ValueError, match="plane 'transverse': expected auto, axial, coronal, sagittal"):
        Plane.of(np.eye(4), SHAPE, "transverse")
