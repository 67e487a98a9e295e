# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What the picture shows lies where it should: measured in its pixels, for volumes stored in different ways."""

import matplotlib.image
import numpy as np
import pytest
from volumes import grid_around

from common.preview import COLOURS, save_preview

GRIDS = {
    "RAS": grid_around(np.diag([2.0, 2.0, 2.0]), (40, 44, 36)),
    "LPS": grid_around(np.diag([-2.0, -2.0, 2.0]), (40, 44, 36)),
    "permuted and flipped": grid_around(np.diag([2.0, -2.0, 2.0])[:, [2, 0, 1]], (36, 40, 44)),
}
# Beside the middle, in mm: towards the patient's right, the front and the head; RAS.
BESIDE = np.array([18.0, 14.0, 10.0])


def picture(tmp_path, grid, image, labels, names=("a",), clicks=(), voxel=None):
    path = tmp_path / "picture.png"
    voxel = [(n - 1) / 2 for n in grid.shape] if voxel is None else voxel
    save_preview(path, image, labels, grid, (0, 1), names, clicks, voxel)
    return matplotlib.image.imread(path)[..., :3]


def panels(pixels):
    """The three planes without title and names."""
    height, width = pixels.shape[:2]
    return [pixels[int(0.15 * height) : int(0.88 * height), k * width // 3 : (k + 1) * width // 3] for k in range(3)]


def dot(grid, radius=6.0):
    """A bright ball beside the middle of the volume."""
    mm = grid.to_mm(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1))
    middle = grid.to_mm((np.array(grid.shape) - 1) / 2)
    return np.linalg.norm(mm - middle - BESIDE, axis=-1) < radius


def shift(mask):
    """From the panel's middle to the centre of ``mask``: how far right, how far up."""
    rows, columns = np.nonzero(mask)
    return columns.mean() - mask.shape[1] / 2, mask.shape[0] / 2 - rows.mean()


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_sides_of_the_patient(tmp_path, grid):
    """Right on the left, front up in axial planes and left in sagittal ones, head up; however it is stored."""
    ball = dot(grid)
    at = grid.to_voxels(grid.to_mm((np.array(grid.shape) - 1) / 2) + BESIDE)
    axial, coronal, sagittal = panels(picture(tmp_path, grid, 0.9 * ball, np.zeros(grid.shape, np.uint8), voxel=at))
    bright = [p.min(axis=-1) > 0.7 for p in (axial, coronal, sagittal)]
    assert all(b.any() for b in bright)
    right, up = shift(bright[0])
    assert right < -10 and up > 10
    right, up = shift(bright[1])
    assert right < -10 and up > 5
    right, up = shift(bright[2])
    assert right < -10 and up > 5


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_contour_surrounds_the_mask(tmp_path, grid):
    ball = dot(grid)
    at = grid.to_voxels(grid.to_mm((np.array(grid.shape) - 1) / 2) + BESIDE)
    colour = np.array([int(COLOURS[0][i : i + 2], 16) for i in (1, 3, 5)]) / 255
    for panel in panels(picture(tmp_path, grid, 0.9 * ball, ball.astype(np.uint8), voxel=at)):
        line = np.abs(panel - colour).max(axis=-1) < 0.15
        bright = panel.min(axis=-1) > 0.7
        assert line.sum() > 40
        np.testing.assert_allclose(shift(line), shift(bright), atol=6)


def test_clicks_are_drawn_in_their_place(tmp_path):
    grid = GRIDS["LPS"]
    at = grid.to_voxels(grid.to_mm((np.array(grid.shape) - 1) / 2) + BESIDE)
    empty = np.zeros(grid.shape)
    for label, channel in ((1, 1), (0, 0)):
        pixels = panels(picture(tmp_path, grid, empty, empty, (), [(at, label)], at))[0]
        marked = pixels[..., channel] - pixels[..., 1 - channel] > 0.5
        right, up = shift(marked)
        assert right < -10 and up > 10
    far = np.array(at) + [0, 0, 12]
    pixels = panels(picture(tmp_path, grid, empty, empty, (), [(far, 1)], at))[0]
    assert not (pixels[..., 1] - pixels[..., 0] > 0.5).any(), "a click far from the plane is not shown in it"


def test_drawn_to_scale(tmp_path):
    grid = grid_around(np.diag([1.0, 1.0, 4.0]), (64, 64, 16))
    ball = (
        np.linalg.norm(
            grid.to_mm(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)) - [12, -30, 45], axis=-1
        )
        < 25
    )
    for panel in panels(picture(tmp_path, grid, 0.9 * ball, 0 * ball)):
        rows, columns = np.nonzero(panel.min(axis=-1) > 0.7)
        assert np.ptp(rows) == pytest.approx(np.ptp(columns), rel=0.15)


@pytest.mark.parametrize("axis", range(3))
def test_one_slice(tmp_path, axis):
    shape = [20, 20, 20]
    shape[axis] = 1
    grid = grid_around(np.eye(3), shape)
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(0, 1) if n == 1 else slice(5, 15) for n in shape)] = 1
    assert picture(tmp_path, grid, labels * 0.5, labels).std() > 0.02


def test_many_objects_and_none(tmp_path):
    grid = grid_around(np.eye(3), (12, 12, 12))
    labels = (np.arange(12**3) % 41).reshape(12, 12, 12).astype(np.uint8)
    assert picture(tmp_path, grid, labels / 41, labels, [f"organ {k}" for k in range(40)]).any()
    assert picture(tmp_path, grid, labels / 41, 0 * labels, ()).any()


def test_a_plane_outside_the_volume_is_the_nearest_one(tmp_path):
    grid = grid_around(np.eye(3), (12, 12, 12))
    assert picture(tmp_path, grid, np.ones(grid.shape) * 0.5, np.zeros(grid.shape), voxel=[-3, 50, 11.6]).any()


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_truth_is_outlined_in_white_beside_the_mask(tmp_path, grid):
    ball = dot(grid)
    at = grid.to_voxels(grid.to_mm((np.array(grid.shape) - 1) / 2) + BESIDE)
    dark, path = np.zeros(grid.shape, np.float32), tmp_path / "truth.png"
    save_preview(path, dark, ball.astype(np.uint8), grid, (0, 1), ["a"], [], at)
    without = matplotlib.image.imread(path)[..., :3]
    assert not any((p.min(axis=-1) > 0.7).any() for p in panels(without))
    save_preview(path, dark, np.zeros_like(ball), grid, (0, 1), ["a"], [], at, truth=ball)
    axial = panels(matplotlib.image.imread(path)[..., :3])[0]
    right, up = shift(axial.min(axis=-1) > 0.7)
    assert right < -10 and up > 10
