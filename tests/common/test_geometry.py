# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Nothing is lost or moved on the way between two grids."""

import numpy as np
import pytest
import torch
from volumes import Phantom, dice, grid_around, rotation

from common import geometry
from common.geometry import Grid, cube_around, overlap, resample

FLIPPED = np.diag([-2.0, 2.0, -2.0])
SOURCES = {
    "plain": grid_around(np.diag([2.0, 2.0, 2.0]), (24, 26, 22)),
    "flipped, left-handed": grid_around(np.diag([-2.0, 2.0, 2.0]), (24, 26, 22)),
    "permuted": grid_around(FLIPPED[:, [2, 0, 1]], (22, 24, 26)),
    "oblique": grid_around(rotation(20, -35, 50) * 2.0, (28, 28, 28)),
    "anisotropic": grid_around(np.diag([0.7, 0.7, 4.0]), (64, 64, 14)),
    "oblique and anisotropic": grid_around(rotation(10, 25, -40) * [1.0, 1.5, 3.0], (56, 40, 20)),
}


def positions(grid: Grid) -> np.ndarray:
    return grid.to_mm(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1))


def linear_field(grid: Grid) -> torch.Tensor:
    """(1, X, Y, Z): a plane in space, so that trilinear interpolation is exact wherever it is not at a border."""
    return torch.as_tensor(positions(grid) @ [0.3, -0.5, 0.7] + 11, dtype=torch.float32)[None]


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_voxels_and_mm_are_inverse(source):
    voxels = np.array([[0, 0, 0], [3.25, 7, 1.5], [-2, 4, 40]])
    np.testing.assert_allclose(source.to_voxels(source.to_mm(voxels)), voxels, atol=1e-9)
    np.testing.assert_allclose(source.to_mm(np.zeros(3)), source.affine[:3, 3])


def test_spacing_and_corners():
    grid = grid_around(rotation(20, -35, 50) * [1.0, 2.0, 3.0], (5, 6, 7))
    np.testing.assert_allclose(grid.spacing, [1, 2, 3])
    corners = grid.corners_mm()
    assert corners.shape == (8, 3)
    np.testing.assert_allclose(corners.mean(axis=0), grid.to_mm([2, 2.5, 3]))
    # From corner to corner it is the outer size of the volume, not the distance of the outer voxels.
    np.testing.assert_allclose(np.linalg.norm(corners - corners[0], axis=1).max(), np.linalg.norm([5, 12, 21]))


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_reversed_axes_name_the_same_places(source):
    turned = source.reversed()
    assert turned.shape == source.shape[::-1]
    np.testing.assert_allclose(turned.to_mm(np.array([1, 2, 3])), source.to_mm(np.array([3, 2, 1])))
    np.testing.assert_array_equal(turned.reversed().affine, source.affine)


def test_crop_keeps_voxels_in_place():
    grid = SOURCES["oblique"]
    part = grid.crop((2, 3, 4), (9, 5, 8))
    assert part.shape == (7, 2, 4)
    np.testing.assert_allclose(positions(part), positions(grid)[2:9, 3:5, 4:8], atol=1e-9)


def test_cube_is_centred_and_axis_aligned():
    cube = cube_around((10, -20, 30), 1.5, 8)
    np.testing.assert_allclose(cube.corners_mm().mean(axis=0), [10, -20, 30])
    np.testing.assert_allclose(cube.affine[:3, :3], 1.5 * np.eye(3))
    assert cube.shape == (8, 8, 8)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
@pytest.mark.parametrize("target", SOURCES.values(), ids=SOURCES.keys())
def test_overlap_covers_every_shared_voxel(source, target):
    start, stop = overlap(source, target)
    other = target.to_voxels(positions(source))
    shared = ((other > -0.5) & (other < np.array(target.shape) - 0.5)).all(axis=-1)
    box = np.zeros(source.shape, bool)
    box[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    assert shared.any() and not (shared & ~box).any()


def test_no_overlap_is_empty_and_outside():
    source, target = SOURCES["plain"], cube_around((500, 0, 0), 1, 4)
    start, stop = overlap(source, target)
    assert (start == stop).any() and (start <= stop).all()
    values, inside = resample(linear_field(source), source, target)
    assert values.shape == (1, 4, 4, 4) and not values.any() and not inside.any()


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_a_linear_field_is_reproduced(source):
    target = cube_around((12.3, -29.6, 45.2), 0.6, 16)
    values, inside = resample(linear_field(source), source, target)
    assert values.dtype == torch.float32 and inside.dtype == torch.bool
    assert inside.all()
    torch.testing.assert_close(values, linear_field(target), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(1, 6, 5), (6, 1, 5), (6, 5, 1), (1, 1, 6), (1, 1, 1)])
def test_a_target_one_voxel_thick_lies_where_it_should(shape):
    source, target = SOURCES["oblique"], grid_around(np.diag([1.1, 0.9, 1.3]), shape, (12.4, -30.3, 44.1))
    values, inside = resample(linear_field(source), source, target)
    assert inside.all()
    torch.testing.assert_close(values, linear_field(target), atol=1e-4, rtol=0)


@pytest.mark.parametrize("axis", range(3))
def test_a_source_of_one_slice_is_constant_across_it(axis):
    shape = [9, 9, 9]
    shape[axis] = 1
    spacing = np.full(3, 2.0)
    spacing[axis] = 5.0
    source = grid_around(np.diag(spacing), shape)
    target = cube_around((12.1, -30.1, 45.1), 1.0, 12)
    values, inside = resample(linear_field(source), source, target)
    across = np.abs(positions(target)[..., axis] - (12, -30, 45)[axis])
    np.testing.assert_array_equal(inside.numpy(), across < 2.5)
    flat = positions(target)
    flat[..., axis] = (12, -30, 45)[axis]
    expected = flat @ [0.3, -0.5, 0.7] + 11
    np.testing.assert_allclose(values[0][inside].numpy(), expected[inside.numpy()], atol=1e-4)


def test_inside_reaches_half_a_voxel_beyond_the_centres():
    source = Grid(np.diag([2.0, 2.0, 2.0, 1.0]), (4, 4, 4))
    target = Grid(np.array([[0.5, 0, 0, -2.25], [0, 1, 0, 3], [0, 0, 1, 3], [0, 0, 0, 1.0]]), (24, 1, 1))
    _, inside = resample(torch.ones(1, 4, 4, 4), source, target)
    x = -2.25 + 0.5 * np.arange(24)
    np.testing.assert_array_equal(inside[:, 0, 0].numpy(), (x > -1) & (x < 7))


def test_outside_repeats_the_border():
    source = Grid(np.eye(4), (4, 4, 4))
    values, inside = resample(linear_field(source), source, cube_around((-0.7, 1.5, 1.5), 1.0, 4))
    assert not inside[:2].any() and inside[2:].all()
    torch.testing.assert_close(values[0, 0, 1, 1], linear_field(source)[0, 0, 1, 1])


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_there_and_back(source):
    """A mask survives the way into a cube and back onto the stored grid."""
    phantom = Phantom(((12, -30, 45), (18, 16, 15)), ramp=8)
    cube = cube_around((12, -30, 45), 1.0, 48)
    there, _ = resample(torch.as_tensor(phantom.image(source))[None], source, cube)
    assert dice(there[0] > 0, phantom.truth(cube)) > 0.97
    back, inside = resample(there, cube, source)
    assert dice((back[0] > 0) & inside, phantom.truth(source)) > 0.98


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_coarser_target_gets_averages(factor):
    """Stripes of one voxel turn into their mean; without averaging they would flicker between 0 and 1."""
    n = 12 * factor
    source = Grid(np.eye(4), (n, n, n))
    stripes = (torch.arange(n) % factor == 0).float().view(1, n, 1, 1).expand(1, n, n, n).contiguous()
    target = Grid(np.diag([factor, factor, factor, 1.0]), (12, 12, 12))
    target.affine[:3, 3] = (factor - 1) / 2
    values, inside = resample(stripes, source, target)
    assert inside.all()
    torch.testing.assert_close(values, torch.full_like(values, 1 / factor))


def test_averages_of_a_linear_field_are_not_shifted():
    source = grid_around(rotation(0, 0, 90) * 0.5, (48, 48, 48))
    target = cube_around((12.1, -30.2, 45.3), 2.0, 5)
    values, _ = resample(linear_field(source), source, target)
    torch.testing.assert_close(values, linear_field(target), atol=1e-3, rtol=0)


def test_a_huge_factor_gives_the_mean():
    source = grid_around(np.eye(3), (10, 11, 12))
    values, inside = resample(linear_field(source), source, Grid(np.diag([900.0, 900, 900, 1]), (2, 2, 2)))
    assert torch.isfinite(values).all()
    target = cube_around((12, -30, 45), 900.0, 1)
    values, inside = resample(linear_field(source), source, target)
    assert inside.all()
    torch.testing.assert_close(values.flatten(), linear_field(source).mean().view(1), atol=0.2, rtol=0)


def test_nearest_keeps_labels():
    source, target = SOURCES["oblique"], cube_around((12, -30, 45), 0.7, 30)
    labels = torch.randint(0, 2, (1, *source.shape), generator=torch.Generator().manual_seed(0)) * 7
    values, inside = resample(labels, source, target, mode="nearest")
    assert set(values.unique().tolist()) == {0.0, 7.0}
    index = source.to_voxels(positions(target)).round().astype(int)
    expected = labels[0].numpy()[tuple(np.moveaxis(index, -1, 0))]
    np.testing.assert_array_equal(values[0][inside].numpy(), expected[inside.numpy()])


def test_floating_labels_keep_their_type_in_nearest_mode():
    source = SOURCES["plain"]
    values, _ = resample(linear_field(source).double(), source, cube_around((12, -30, 45), 1, 4), mode="nearest")
    assert values.dtype == torch.float64


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_slabs_change_nothing(monkeypatch, mode):
    source, target = SOURCES["oblique and anisotropic"], cube_around((12, -30, 45), 1.7, 17)
    volume = torch.rand(2, *source.shape, generator=torch.Generator().manual_seed(0))
    whole = resample(volume, source, target, mode)
    # Eight slabs of two rows, and a last one of a single row.
    monkeypatch.setattr(geometry, "SLAB_VOXELS", 2 * 17 * 17 + 5)
    slabs = resample(volume, source, target, mode)
    torch.testing.assert_close(slabs[0], whole[0], atol=1e-4, rtol=0)
    assert torch.equal(slabs[1], whole[1])


def test_channels_do_not_mix():
    source, target = SOURCES["permuted"], cube_around((12, -30, 45), 1.1, 9)
    field = linear_field(source)
    both, _ = resample(torch.cat([field, -field]), source, target)
    alone, _ = resample(field, source, target)
    torch.testing.assert_close(both, torch.cat([alone, -alone]))


def test_whole_numbers_in_floats_out():
    source, target = SOURCES["plain"], cube_around((12, -30, 45), 1.3, 6)
    field = (100 * linear_field(source)).round()
    for dtype in (torch.int16, torch.int32, torch.float64):
        values, _ = resample(field.to(dtype), source, target)
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, resample(field, source, target)[0], atol=1e-3, rtol=0)


def test_a_volume_on_another_grid_is_refused():
    with pytest.raises(ValueError, match=r"\(3, 4, 5\).*\(24, 26, 22\)"):
        resample(torch.zeros(1, 3, 4, 5), SOURCES["plain"], SOURCES["oblique"])


def test_centres_alone_where_no_average_is_wanted():
    source = Grid(np.eye(4), (40, 4, 4))
    slab = torch.zeros(1, 40, 4, 4)
    slab[:, 17:20] = 1
    target = Grid(np.diag([6.0, 1, 1, 1]), (7, 4, 4))
    values, _ = resample(slab, source, target, average=False)
    assert values[0, :, 1, 1].tolist() == [0, 0, 0, 1, 0, 0, 0]
    values, _ = resample(slab, source, target)
    assert 0 < values[0, 3, 1, 1] < 0.6
