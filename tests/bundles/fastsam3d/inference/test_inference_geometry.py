# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The same click on the same body gives the same mask, however the volume is stored."""

import itertools
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest
import torch
from stand_in import ThresholdNetwork
from volumes import CENTRE, Phantom, dice, grid_around, rotation, write_dicom, write_itk, write_nifti

from bundles.fastsam3d.scripts.inference.segment import Segmenter
from common.geometry import Grid

WINDOW = [-100.0, 100.0]
BODY = Phantom((CENTRE, (16, 13, 11)), ((CENTRE[0] + 26, CENTRE[1], CENTRE[2]), 6), ramp=6)
BRICK = Phantom((CENTRE, (16.2, 13.2, 11.7)), ramp=6, norm=np.inf)
PLAIN = grid_around(np.diag([2.0, 2.0, 2.0]), (40, 30, 28))
DEFAULT_WEIGHTS = Path(__file__).parents[4] / "bundles/fastsam3d/models/model.pt"

GRIDS = {
    "RAS": PLAIN,
    "LPS": grid_around(np.diag([-2.0, -2.0, 2.0]), (40, 30, 28)),
    "left-handed": grid_around(np.diag([2.0, -2.0, 2.0]), (40, 30, 28)),
    "slices from front to back": grid_around(np.diag([2.0, 2.0, 2.5])[:, [0, 2, 1]], (40, 26, 30)),
    "oblique": grid_around(rotation(25, -15, 40) * 1.7, (44, 44, 44)),
    "oblique and left-handed": grid_around(rotation(-50, 70, 15) @ np.diag([1.8, 1.8, -1.8]), (44, 44, 44)),
    "thick slices": grid_around(np.diag([0.3, 0.3, 5.0]), (160, 140, 9), (CENTRE[0] - 2, *CENTRE[1:])),
    "thick sagittal slices": grid_around(np.diag([0.5, 0.5, 5.0])[:, [2, 0, 1]], (10, 90, 80)),
    "tilted thick slices": grid_around(rotation(20, 0, 0) * [0.6, 0.6, 4.0], (80, 80, 14)),
    "finer than the cube": grid_around(np.diag([0.6, 0.6, 0.6]), (70, 64, 60)),
    "coarser than the cube": grid_around(np.diag([4.0, 4.0, 4.0]), (20, 16, 14)),
}


def segment(network, image: np.ndarray, grid: Grid, prompts: dict, **config) -> tuple[np.ndarray, dict]:
    """The engine alone: (X, Y, Z) labels and summary."""
    segmenter = Segmenter(**{"cube_size": 32, "window": WINDOW, **config})
    found = segmenter.segment(image.copy(), grid.affine, prompts, network)
    assert found.labels.shape == image.shape and found.labels.dtype == torch.uint8
    return found.labels.numpy(), found.summary


def turned(order: tuple[int, ...], flips: tuple[int, ...], values: np.ndarray, grid: Grid) -> tuple[np.ndarray, Grid]:
    """The same voxels, stored along other axes and in other directions."""
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3][:, order]
    values = values.transpose(order)
    for axis in flips:
        affine[:3, 3] += affine[:3, axis] * (values.shape[axis] - 1)
        affine[:3, axis] *= -1
        values = np.flip(values, axis)
    return values, Grid(affine, values.shape)


def turned_back(order: tuple[int, ...], flips: tuple[int, ...], values: np.ndarray) -> np.ndarray:
    for axis in flips:
        values = np.flip(values, axis)
    return values.transpose(np.argsort(order))


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_mask_is_the_object(run_bundle, tmp_path, grid):
    """From file to file: the mask is where the object is, for any affine."""
    # Between slices as thick as half the object only flat faces are where they were.
    thick = max(grid.spacing) > 3
    body, cube = (BRICK, {"cube_size": 64, "spacing": 0.75}) if thick else (BODY, {})
    file = write_nifti(tmp_path / "volume.nii.gz", body.image(grid), grid)
    mask, summary = run_bundle(image=file, foreground=[body.click(grid)], window=WINDOW, **cube)
    np.testing.assert_array_equal(mask.affine, nib.load(file).affine)
    assert mask.shape == grid.shape
    assert dice(mask.get_fdata(), body.truth(grid)) >= 0.98
    (described,) = summary["objects"]
    assert described["volume_ml"] == pytest.approx(body.truth(grid).sum() * np.prod(grid.spacing) / 1000, rel=0.04)


@pytest.mark.parametrize("order", itertools.permutations(range(3)), ids=str)
@pytest.mark.parametrize("flips", [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)], ids=str)
def test_all_ways_to_store_a_volume(threshold_network, order, flips):
    oblique = grid_around(rotation(8, 14, -11) * [2.0, 1.6, 2.4], (36, 36, 30))
    image, grid = turned(order, flips, BODY.image(oblique), oblique)
    np.testing.assert_allclose(image, BODY.image(grid), atol=1e-3)
    mask, _ = segment(threshold_network, image, grid, {"foreground": [BODY.click(grid)]})
    plain, _ = segment(threshold_network, BODY.image(oblique), oblique, {"foreground": [BODY.click(oblique)]})
    assert dice(plain, BODY.truth(oblique)) >= 0.98
    assert dice(turned_back(order, flips, mask), plain) >= 0.999


@pytest.mark.parametrize("weights", ["random", "default"])
def test_flips_and_permutations_with_a_real_network(run_bundle, tmp_path, random_weights, weights):
    """What the network answers does not depend on how the volume is stored, good or bad as the answer may be."""
    if weights == "default" and not DEFAULT_WEIGHTS.is_file():
        pytest.skip("bundles/fastsam3d/models/model.pt is not here yet")
    options = {
        "ckpt_path": DEFAULT_WEIGHTS if weights == "default" else random_weights,
        "cube_size": 64 if weights == "default" else 32,
    }
    grid = grid_around(np.diag([1.5, 1.5, 3.0]), (48, 44, 24))
    noise = np.random.default_rng(0).normal(0, 10, grid.shape)
    image = (BODY.image(grid) + noise).astype(np.float32)
    masks = []
    for order, flips in (((0, 1, 2), ()), ((2, 0, 1), (0,)), ((1, 0, 2), (0, 1, 2))):
        values, stored = turned(order, flips, image, grid)
        name = f"{''.join(map(str, (*order, 9, *flips)))}.nii.gz"
        file = write_nifti(tmp_path / name, values, stored)
        mask, _ = run_bundle(image=file, foreground=[BODY.click(stored)], **options)
        masks.append(turned_back(order, flips, np.asarray(mask.dataobj)))
    if weights == "default":
        assert masks[0].any()
    else:
        # Nothing can be told from two empty masks.
        assert masks[0].any() and not masks[0].all()
    assert dice(masks[1], masks[0]) >= 0.98
    assert dice(masks[2], masks[0]) >= 0.98


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("extension", [".nii.gz", ".mha"])
def test_one_slice(run_workflow, tmp_path, axis, extension):
    shape, spacing = [60, 60, 60], np.full(3, 1.0)
    shape[axis], spacing[axis] = 1, 5.0
    grid = grid_around(np.diag(spacing), shape)
    file = write_nifti(tmp_path / "slice.nii.gz", BODY.image(grid), grid)
    folder = run_workflow(
        image=file, foreground=[BODY.click(grid)], window=WINDOW, preview=axis == 0, output_ext=extension
    )
    if extension == ".mha":
        mask = itk.array_from_image(itk.imread(str(folder / "slice_seg.mha"))).transpose(2, 1, 0)
    else:
        mask = np.asarray(nib.load(folder / "slice_seg.nii.gz").dataobj)
    assert mask.shape == tuple(shape)
    assert dice(mask, BODY.truth(grid)) >= 0.98
    assert (folder / "slice_seg.png").is_file() == (axis == 0)


def test_tiny_volume(run_bundle, tmp_path):
    grid = grid_around(np.diag([1.5, -1.5, 2.0]), (9, 8, 7))
    tiny = Phantom((CENTRE, (4, 3.5, 4)), ramp=2)
    file = write_nifti(tmp_path / "tiny.nii.gz", tiny.image(grid), grid)
    mask, _ = run_bundle(image=file, foreground=[tiny.click(grid)], window=WINDOW)
    assert dice(mask.get_fdata(), tiny.truth(grid)) >= 0.95


def test_object_larger_than_the_cube(threshold_network):
    """The first cube shows 48 mm of an object of 120 x 80 x 60 mm: coarser ones cover the rest."""
    large = Phantom((CENTRE, (60, 40, 30)), ramp=25)
    grid = grid_around(rotation(0, 0, 30) * [3.0, 3.0, 4.0], (60, 60, 40))
    mask, summary = segment(threshold_network, large.image(grid), grid, {"foreground": [large.click(grid)]})
    found = summary["objects"][0]["cubes"]
    assert found[0]["spacing_mm"] == 1.5 and found[0]["why"] == "first prompt"
    assert len(found) >= 2 and all("border" in c["why"] for c in found[1:])
    assert [c["spacing_mm"] for c in found] == sorted(c["spacing_mm"] for c in found)
    # The stand-in's threshold is the middle of each cube: inside the first one it is too high.
    assert dice(mask, large.truth(grid)) >= 0.85
    far = mask[tuple(np.round(grid.to_voxels(np.array(CENTRE) + [50, 0, 0])).astype(int))]
    assert far == 1, "beyond the first cube nothing was found"


class Everything(ThresholdNetwork):
    """Finds the object wherever it looks."""

    def decode(self, embedding, points, labels, boxes=None, masks=None, multimask=False, rounds=1):
        return torch.ones(len(points), 1, *embedding.image.shape[2:]), torch.ones(len(points), 1)


@pytest.mark.parametrize("corner", [False, True])
def test_object_as_large_as_the_volume(corner):
    """Passes end with a cube that shows everything. A click in a corner does not fill the image far from it."""
    grid = grid_around(rotation(30, 0, 20) * 5.0, (40, 40, 40))
    click = [[0, 39, 39]] if corner else [[20, 20, 20]]
    mask, summary = segment(Everything(), BODY.image(grid), grid, {"foreground": click})
    spacings = [c["spacing_mm"] for c in summary["objects"][0]["cubes"]]
    assert 2 <= len(spacings) <= 6
    assert (mask == 1).mean() > 0.5 if corner else (mask == 1).all()


def test_small_object_gets_a_finer_cube(threshold_network):
    nodule = Phantom((CENTRE, (2.5, 3.0, 2.5)), ramp=1.5)
    grid = grid_around(np.diag([0.5, 0.5, 0.7]), (90, 90, 60))
    click = {"foreground": [nodule.click(grid)]}
    mask, summary = segment(threshold_network, nodule.image(grid), grid, click)
    coarse, fine = summary["objects"][0]["cubes"]
    assert fine["why"] == "the mask is small" and coarse["why"] == "first prompt"
    assert fine["spacing_mm"] <= coarse["spacing_mm"] / 2
    assert dice(mask, nodule.truth(grid)) >= 0.97
    # At most four voxels of the cube to one of the image.
    for thickness, spacings in ((2.2, [1.5, 0.75]), (4.5, [1.5])):
        thick = grid_around(np.diag([thickness] * 3), (24, 24, 24))
        _, summary = segment(threshold_network, nodule.image(thick), thick, {"foreground": [nodule.click(thick)]})
        assert [c["spacing_mm"] for c in summary["objects"][0]["cubes"]] == pytest.approx(spacings)


def test_object_at_the_edge_of_the_volume(threshold_network):
    """Beyond the volume there is nothing to cover: no coarser pass for an object that the volume itself cuts."""
    grid = grid_around(np.diag([2.0, 2.0, 2.0]), (20, 20, 20), (CENTRE[0] + 20, *CENTRE[1:]))
    mask, summary = segment(threshold_network, BODY.image(grid), grid, {"foreground": [[1, 9.5, 9.5]]})
    assert len(summary["objects"][0]["cubes"]) == 1
    assert dice(mask, BODY.truth(grid)) >= 0.9


def test_a_click_beyond_the_cube_is_followed_in_a_coarser_one(threshold_network):
    """What the first click found at a fine spacing is not thrown away for a click 100 mm from it."""
    grid = grid_around(np.diag([3.0, 3.0, 3.0]), (60, 30, 30))
    pair = Phantom((np.add(CENTRE, [-50, 0, 0]), 15), (np.add(CENTRE, [50, 0, 0]), 15), ramp=8)
    prompts = {"foreground": [pair.click(grid, 0), pair.click(grid, 1)]}
    mask, summary = segment(threshold_network, pair.image(grid), grid, prompts)
    first, *others = summary["objects"][0]["cubes"]
    assert first["spacing_mm"] == 1.5
    assert others and {c["why"] for c in others} == {"a click lies outside the cube"}
    assert dice(mask, pair.truth(grid, 0) | pair.truth(grid, 1)) >= 0.93


def test_clicks_near_the_border_of_the_cube_get_a_wider_one(threshold_network):
    grid = grid_around(np.diag([2.0, 2.0, 2.0]), (60, 40, 40))
    ball = Phantom((CENTRE, (26, 12, 12)), ramp=8)
    ends = [grid.to_voxels(np.add(CENTRE, [x, 0, 0])).tolist() for x in (-11, 11)]
    mask, summary = segment(threshold_network, ball.image(grid), grid, {"foreground": ends})
    # 22 mm are less than the half of 48, but leave too little to be seen beyond them.
    assert summary["objects"][0]["cubes"][0]["spacing_mm"] == pytest.approx(1.5 * 2**0.5, abs=1e-3)
    assert dice(mask, ball.truth(grid)) >= 0.9


@pytest.mark.parametrize("extra", [0, 40])
def test_box_sets_the_spacing(threshold_network, extra):
    ball = Phantom((CENTRE, 4 + extra), ramp=3)
    grid = grid_around(np.diag([1.0, -1.0, 1.0]), (100, 100, 100))
    low, high = (grid.to_voxels(np.add(CENTRE, s * (4 + extra) * np.array([1, -1, 1]))) for s in (-1, 1))
    mask, summary = segment(threshold_network, ball.image(grid), grid, {"box": [low.tolist(), high.tolist()]})
    spacing = summary["objects"][0]["cubes"][0]["spacing_mm"]
    assert spacing < 1.5 if extra == 0 else spacing > 1.5
    assert dice(mask, ball.truth(grid)) >= 0.95


@pytest.mark.parametrize(
    ("dtype", "scale", "offset"),
    [("int16", 10, -200), ("uint8", 1, 128), ("float64", 0.01, 3), ("uint16", 20, 4000), ("float32", 1e-6, 0)],
)
def test_stored_types(run_bundle, tmp_path, dtype, scale, offset):
    values = (BODY.image(PLAIN).astype(np.float64) * scale + offset).astype(dtype)
    file = write_nifti(tmp_path / "typed.nii.gz", values, PLAIN)
    window = [offset - 100 * scale, offset + 100 * scale]
    mask, _ = run_bundle(image=file, foreground=[BODY.click(PLAIN)], window=window)
    assert mask.get_data_dtype() == np.uint8
    assert dice(mask.get_fdata(), BODY.truth(PLAIN)) >= 0.98


def test_scaled_nifti_is_read_in_its_units_and_the_mask_is_not_scaled(run_bundle, tmp_path):
    image = nib.Nifti1Image(BODY.image(PLAIN).astype(np.int16), PLAIN.affine)
    image.header.set_slope_inter(0.5, 1000)
    nib.save(image, tmp_path / "scaled.nii")
    mask, _ = run_bundle(image=tmp_path / "scaled.nii", foreground=[BODY.click(PLAIN)], window=[950, 1050])
    assert set(np.unique(mask.get_fdata())) == {0.0, 1.0}
    assert dice(mask.get_fdata(), BODY.truth(PLAIN)) >= 0.98


def test_4d_with_one_channel(run_bundle, tmp_path):
    shape = (*PLAIN.shape, 1)
    file = write_nifti(tmp_path / "axes.nii.gz", BODY.image(PLAIN).reshape(shape), PLAIN)
    mask, _ = run_bundle(image=file, foreground=[BODY.click(PLAIN)], window=WINDOW)
    assert mask.shape == shape
    assert dice(mask.get_fdata().reshape(PLAIN.shape), BODY.truth(PLAIN)) >= 0.98


@pytest.mark.parametrize("extension", [".nrrd", ".mha"])
@pytest.mark.parametrize("name", ["RAS", "oblique and left-handed"])
def test_itk_formats(run_bundle, tmp_path, extension, name):
    grid = GRIDS[name]
    file = write_itk(tmp_path / f"volume{extension}", BODY.image(grid), grid)
    mask, summary = run_bundle(image=file, foreground=[BODY.click(grid)], window=WINDOW)
    np.testing.assert_allclose(mask.affine, grid.affine, atol=1e-4)
    assert mask.get_data_dtype() == np.uint8
    assert dice(np.asarray(mask.dataobj), BODY.truth(grid)) >= 0.98
    assert summary["mask"] == "volume_seg.nii.gz"


@pytest.mark.parametrize("name", ["LPS", "tilted thick slices"])
def test_dicom_series(run_bundle, tmp_path, name):
    grid = GRIDS[name]
    body = BRICK if max(grid.spacing) > 3 else BODY
    values = (5 * body.image(grid)).astype(np.int16)
    # GDCM stores rows along the first axis and sorts slices along their normal: only such grids come back as written.
    series = write_dicom(tmp_path / "series", values, grid)
    mask, _ = run_bundle(image=series, foreground=[body.click(grid)], window=[-500, 500])
    np.testing.assert_allclose(mask.affine, grid.affine, atol=1e-3)
    assert mask.shape == grid.shape
    assert dice(np.asarray(mask.dataobj), body.truth(grid)) >= 0.98


@pytest.mark.parametrize("extension", [".nrrd", ".mha", ".nii"])
def test_other_output_formats(run_workflow, tmp_path, extension):
    grid = GRIDS["oblique"]
    file = write_nifti(tmp_path / "volume.nii.gz", BODY.image(grid), grid)
    folder = run_workflow(image=file, foreground=[BODY.click(grid)], window=WINDOW, output_ext=extension)
    mask = itk.imread(str(folder / f"volume_seg{extension}"))
    values = itk.array_from_image(mask).transpose(2, 1, 0)
    assert values.dtype == np.uint8
    assert dice(values, BODY.truth(grid)) >= 0.98
    place = itk.array_from_matrix(mask.GetDirection()) * np.array(mask.GetSpacing())
    np.testing.assert_allclose(place, np.diag([-1, -1, 1]) @ grid.affine[:3, :3], atol=1e-4)
    np.testing.assert_allclose(mask.GetOrigin(), np.diag([-1, -1, 1]) @ grid.affine[:3, 3], atol=1e-3)
