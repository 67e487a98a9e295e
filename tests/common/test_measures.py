# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Sizes of shapes that formulas know, on oblique, anisotropic, flipped and sheared grids."""

import numpy as np
import pytest
from volumes import CENTRE, Phantom, grid_around, rotation

from common.measures import measures, picture_measures

FINE = {
    "one mm": (np.diag([1.0, 1, 1]), (50, 50, 50)),
    "flipped": (np.diag([-1.0, 1, -1]), (50, 50, 50)),
    "oblique": (rotation(20, -35, 50) @ np.diag([1.1, 0.9, 1.3]), (54, 62, 44)),
    "anisotropic": (np.diag([-0.8, -0.8, 2.5]), (64, 64, 22)),
    "sagittal": (np.diag([1.0, -1.2, -0.9])[:, [1, 2, 0]], (44, 56, 50)),
    "tilted gantry": (np.array([[1.0, 0, 0], [0, 1, 0.3], [0, 0, 1.2]]), (50, 60, 44)),
}


def ellipsoid_area(a, b, c):
    """mm2, by the middle of 400 x 800 pieces."""
    t, p = np.meshgrid((np.arange(400) + 0.5) * np.pi / 400, (np.arange(800) + 0.5) * np.pi / 400, indexing="ij")
    sides = b * c * np.sin(t) * np.cos(p), a * c * np.sin(t) * np.sin(p), a * b * np.cos(t)
    return float((np.sin(t) * np.linalg.norm(sides, axis=0)).sum() * (np.pi / 400) ** 2)


@pytest.mark.parametrize("radii", [(20, 20, 20), (20, 14, 9)])
@pytest.mark.parametrize("name", FINE)
def test_an_ellipsoid(name, radii):
    axes, shape = FINE[name]
    grid = grid_around(axes, shape)
    phantom = Phantom((CENTRE, radii))
    found = measures(phantom.truth(grid), grid, phantom.image(grid))
    # Thick slices leave steps that a quarter of a voxel of smoothing does not take away.
    assert found["surface_cm2"] == pytest.approx(ellipsoid_area(*radii) / 100, rel=0.07)
    step = np.linalg.norm(axes, axis=0).max()
    assert found["longest_diameter_mm"] == pytest.approx(40, abs=step)
    if name not in ("oblique", "tilted gantry"):
        found_here = [found["axial_diameter_mm"], found["axial_across_mm"]]
        assert found_here == pytest.approx([2 * radii[0], 2 * radii[1]], abs=1.5)
        along = {"sagittal": 1}.get(name, 2)
        assert found["axial_slice"] == pytest.approx((shape[along] - 1) / 2, abs=1.5)


def test_the_surface_is_not_that_of_steps():
    axes, shape = FINE["one mm"]
    grid = grid_around(axes, shape)
    found = measures(Phantom((CENTRE, 20)).truth(grid), grid, np.zeros(shape))
    assert found["surface_cm2"] == pytest.approx(4 * np.pi * 4, rel=0.01)


@pytest.mark.parametrize("turned", [False, True])
def test_a_box(turned):
    """30 x 20 x 10 mm, whatever the voxels."""
    axes = (rotation(20, 10, 35) if turned else np.eye(3)) @ np.diag([1, 0.5, 0.5])
    mask = np.zeros((40, 50, 30), bool)
    mask[5:35, 5:45, 5:25] = True
    image = np.where(mask, 40.0, -1000.0)
    image[5, 5, 5] = 64.0
    found = measures(mask, grid_around(axes, mask.shape), image, "HU")
    assert found["surface_cm2"] == pytest.approx(22, rel=0.03)
    assert found["longest_diameter_mm"] == pytest.approx(np.sqrt(30**2 + 20**2 + 10**2), abs=0.7)
    if not turned:
        longest, across = found["axial_diameter_mm"], found["axial_across_mm"]
        assert longest == pytest.approx(np.hypot(30, 20), abs=0.7)
        # The height of the triangle below a diagonal, twice: the longest line at a right angle to it in a rectangle.
        assert across == pytest.approx(20 * np.hypot(30, 20) / 30, abs=0.7)
    count = 30 * 40 * 20
    assert found["intensity"] == {
        "mean": pytest.approx(40 + 24 / count, abs=1e-3),
        "sd": pytest.approx(24 * np.sqrt(1 / count - 1 / count**2), abs=1e-3),
        "lowest": 40.0,
        "highest": 64.0,
        "unit": "HU",
    }


def test_one_voxel_and_none():
    grid = grid_around(np.diag([1.0, 2, 3]), (5, 5, 5))
    mask = np.zeros(grid.shape, bool)
    assert measures(mask, grid, np.ones(grid.shape)) == {}
    mask[0, 4, 2] = True
    found = measures(mask, grid, np.ones(grid.shape))
    assert found["longest_diameter_mm"] == pytest.approx(3)
    assert [found["axial_diameter_mm"], found["axial_across_mm"]] == pytest.approx([2, 1]) and found["axial_slice"] == 2
    assert 0 < found["surface_cm2"] < 0.22 and found["intensity"]["unit"] == "as stored"


def test_an_ellipse_in_a_picture():
    rows, columns = np.mgrid[:80, :100]
    mask = ((rows - 40) * 0.5 / 10) ** 2 + ((columns - 50) * 0.25 / 8) ** 2 < 1
    found = picture_measures(mask, (0.5, 0.25), np.where(mask, 7, 0), "")
    assert [found["diameter_mm"], found["across_mm"]] == pytest.approx([20, 16], abs=0.5)
    assert found["intensity"] == {"mean": 7, "sd": 0, "lowest": 7, "highest": 7, "unit": "as stored"}
    in_pixels = picture_measures(mask, None, None)
    assert in_pixels == {"diameter_px": pytest.approx(64, abs=1), "across_px": pytest.approx(40, abs=1)}
    assert picture_measures(mask & False, None, None) == {}
