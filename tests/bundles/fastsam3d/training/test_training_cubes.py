# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""From label maps of any orientation to cubes: in place, the same whoever draws, and refused where they cannot be."""

import os

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import PersistentDataset
from monai.transforms import Compose
from volumes import GRIDS, PAIR, write_nifti

from bundles.fastsam3d.scripts.inference.zoom import first_spacing
from bundles.fastsam3d.scripts.labelled_cases import LoadLabelsd
from bundles.fastsam3d.scripts.training.cubes import FEWEST_VOXELS, Volume, drawn_cube, plain_cube, random_cube
from bundles.fastsam3d.scripts.training.data import DrawCubed, KeepTensorsd, loaded_dataset
from bundles.fastsam3d.scripts.volumes import LoadVolumed
from common.geometry import Grid
from common.training import SeededDataset


@pytest.fixture
def items(tmp_path):
    """Items of two volumes, the labels 2 and 700 in each."""
    found = []
    for name in ("LPS", "oblique"):
        grid = GRIDS[name]
        labels = 2 * PAIR.truth(grid, 0) + 700 * PAIR.truth(grid, 1).astype(np.int16)
        write_nifti(tmp_path / f"{name}.nii.gz", PAIR.image(grid), grid)
        write_nifti(tmp_path / f"{name}_seg.nii.gz", labels.astype(np.int16), grid)
        found.append({"image": str(tmp_path / f"{name}.nii.gz"), "label": str(tmp_path / f"{name}_seg.nii.gz")})
    return found


def preparation(window=(-100.0, 100.0)):
    return Compose([LoadVolumed("image"), LoadLabelsd("label", "image"), KeepTensorsd(list(window))])


def phantom_volume(grid: Grid) -> Volume:
    labels = PAIR.truth(grid, 0) + 2 * PAIR.truth(grid, 1).astype(np.uint8)
    image, labels = torch.from_numpy(PAIR.image(grid))[None], torch.from_numpy(labels.astype(np.uint8))[None]
    return Volume(image, labels, grid, (-100.0, 100.0), ((1,), (2,)), "phantom")


@pytest.mark.parametrize("name", GRIDS)
def test_image_and_objects_lie_on_each_other_in_every_pose(name):
    rng = np.random.default_rng(0)
    for _ in range(8):
        cube = random_cube(phantom_volume(GRIDS[name]), rng, 32, 2, 2.0, None, 1)
        if cube is None:
            continue
        inside = cube.targets.amax(0).bool()
        # Intensity is above that of the surface inside the objects alone; an inverted look turns that round.
        bright = float(cube.image[inside].mean()) - float(cube.image[~inside].mean())
        assert abs(bright) > 1


@pytest.mark.parametrize("name", GRIDS)
def test_the_plain_cube_shows_the_object_as_large_as_it_is(name):
    volume = phantom_volume(GRIDS[name])
    cube = plain_cube(volume, (1,), 48)
    corners = cube.targets[0, 0].nonzero()
    extent = (corners.amax(0) - corners.amin(0) + 1).float()
    # Radii 14, 11, 10 mm along RAS axes: the cube's axes are those of space whatever the file's are.
    torch.testing.assert_close(extent / extent[0], torch.tensor([1.0, 11 / 14, 10 / 14]), atol=0.12, rtol=0)
    assert (corners.amin(0) > 0).all() and (corners.amax(0) < 47).all()


def test_cubes_are_normalised_and_hold_their_objects():
    rng = np.random.default_rng(1)
    for _ in range(6):
        cube = drawn_cube(phantom_volume(GRIDS["LPS"]), rng, 32, 3, 2.0)
        assert cube.image.shape == (1, 32, 32, 32) and cube.targets.shape == (3, 1, 32, 32, 32)
        assert torch.isfinite(cube.image).all()
        assert (cube.targets.flatten(1).sum(1) >= 1).all()


@pytest.mark.parametrize("name", GRIDS)
def test_an_upright_cube_keeps_the_axes_of_the_body(name):
    """The small ball lies on the right of the large one, wherever that is in the file."""
    volume, right = phantom_volume(GRIDS[name]), {}
    for upright in (1.0, 0.0):
        rng = np.random.default_rng(3)
        cubes = [random_cube(volume, rng, 48, 2, 2.5, None, 1, upright=upright) for _ in range(40)]
        pairs = [sorted(cube.targets[:, 0], key=torch.sum) for cube in cubes if cube is not None]
        places = [[mask.nonzero().float() for mask in pair] for pair in pairs]
        # Where both are in the cube as a whole.
        places = [pair for pair in places if all(p.min() > 0 and p.max() < 47 for p in pair)]
        ways = [ball.mean(0) - large.mean(0) for ball, large in places if len(large) > 2 * len(ball)]
        ways = [way / way.norm() for way in ways]
        assert len(ways) > 9
        right[upright] = [float(way[0]) > 0.85 for way in ways]
    assert all(right[1.0]) and np.mean(right[0.0]) < 0.5


def test_cubes_are_drawn_upright_and_as_fine_as_inference_shows_them_first(items):
    item = loaded_dataset(items, preparation(), progress=False)[0]
    grid = Grid(item["affine"].numpy(), tuple(item["image"].shape[1:]))
    targets = tuple((i + 1,) for i in range(len(item["values"])))
    volume = Volume(item["image"], item["label"], grid, tuple(item["bounds"].tolist()), targets, "phantom")
    spacing = first_spacing(grid, 32, 6.0)
    assert spacing < 6
    for seed in range(8):
        drawn = DrawCubed(32, 6.0, 1, upright=1.0).set_random_state(seed)(item)
        expected = drawn_cube(volume, np.random.default_rng(drawn["seed"]), 32, 1, spacing, upright=1.0)
        assert torch.equal(drawn["image"], expected.image) and torch.equal(drawn["label"], expected.targets)
    turned = DrawCubed(32, 6.0, 1).set_random_state(seed)(item)
    assert turned["seed"] == drawn["seed"] and not torch.equal(turned["image"], drawn["image"])


def test_every_present_class_is_drawn():
    rng = np.random.default_rng(2)
    volume = phantom_volume(GRIDS["LPS"])
    sizes = [int(random_cube(volume, rng, 32, 1, 2.0, (2.0, 2.0), 1).targets.sum()) for _ in range(12)]
    assert min(sizes) < 200 < 700 < max(sizes)


def test_sam_med3ds_teacher_sees_its_own_normalisation(items):
    data = loaded_dataset(items, preparation(), progress=False)
    for augment in (True, False):
        image = SeededDataset(data, DrawCubed(32, 2.0, 1, augment, "above_zero"), 1)[0]["image"]
        # Mean and deviation are those of the voxels above zero, nothing is clipped: most voxels lie far below.
        highest = image[image > image.min() + 0.5 * (image.max() - image.min())]
        assert abs(float(highest.mean())) < 0.5
        assert float(image.min()) < -3
    with pytest.raises(ValueError, match="normalisation 'z': expected clipped or above_zero"):
        DrawCubed(normalisation="z")


def test_an_object_of_one_voxel_is_found():
    grid = Grid(np.diag([1.0, 1.0, 4.0, 1.0]), (20, 20, 9))
    labels = torch.zeros(1, 20, 20, 9, dtype=torch.uint8)
    labels[0, 7, 11, 3] = 1
    volume = Volume(torch.rand(1, 20, 20, 9), labels, grid, (0.0, 1.0), ((1,),), "dot")
    assert 0 < int(drawn_cube(volume, np.random.default_rng(0), 32, 1, 1.5).targets.sum())
    assert FEWEST_VOXELS > 1


def test_labels_of_any_value_are_numbered(items):
    item = preparation()(items[0])
    assert item["values"].tolist() == [2, 700]
    assert item["label"].dtype == torch.uint8 and item["label"].unique().tolist() == [0, 1, 2]
    assert item["bounds"].tolist() == [-100, 100]
    assert all(not hasattr(v, "meta") for v in item.values())


def test_a_label_map_without_background_is_all_object(tmp_path):
    grid = GRIDS["LPS"]
    write_nifti(tmp_path / "i.nii.gz", PAIR.image(grid), grid)
    write_nifti(tmp_path / "l.nii.gz", np.full(grid.shape, 3, np.uint8), grid)
    item = preparation()({"image": str(tmp_path / "i.nii.gz"), "label": str(tmp_path / "l.nii.gz")})
    assert item["values"].tolist() == [3] and (item["label"] == 1).all()


def test_draws_are_the_same_whoever_draws_and_others_in_another_epoch(items):
    data = loaded_dataset(items, preparation(), progress=False)
    cubes = SeededDataset(data, DrawCubed(16, 2.0, 2), 5, seed=3)
    again = SeededDataset(data, DrawCubed(16, 2.0, 2), 5, seed=3)
    backwards = {i: again[i] for i in reversed(range(5))}
    for i in range(5):
        assert torch.equal(cubes[i]["image"], backwards[i]["image"])
        assert cubes[i]["seed"] == backwards[i]["seed"]
    assert len({cubes[i]["seed"] for i in range(5)}) == 5
    cubes.start_epoch(4)
    assert not torch.equal(cubes[0]["image"], backwards[0]["image"])
    fixed = SeededDataset(data, DrawCubed(16, 2.0, 2), 5, seed=3, fixed=True)
    fixed.start_epoch(4)
    assert torch.equal(fixed[0]["image"], backwards[0]["image"])
    with pytest.raises(IndexError):
        cubes[5]


def test_a_cache_on_disk_serves_a_second_run_and_notices_changes(items, tmp_path, monkeypatch):
    calls = []
    original = LoadLabelsd.__call__
    monkeypatch.setattr(LoadLabelsd, "__call__", lambda self, d: (calls.append(1), original(self, d))[1])
    first = loaded_dataset(items, preparation(), str(tmp_path / "cache"), progress=False)
    assert isinstance(first, PersistentDataset) and len(calls) == 2
    second = loaded_dataset(items, preparation(), str(tmp_path / "cache"), progress=False)
    assert len(calls) == 2
    assert torch.equal(first[0]["label"], second[0]["label"]) and second[0]["affine"].dtype == torch.float64
    loaded_dataset(items, preparation((-50.0, 50.0)), str(tmp_path / "cache"), progress=False)
    assert len(calls) == 4
    os.utime(items[0]["label"], (1, 1))
    loaded_dataset(items, preparation(), str(tmp_path / "cache"), progress=False)
    assert len(calls) == 5


@pytest.mark.parametrize("cache", [None, "cache"])
def test_what_is_wrong_with_a_file_is_said_in_its_own_words(items, tmp_path, cache):
    labels = nib.load(items[1]["label"])
    nib.save(nib.Nifti1Image(np.zeros(labels.shape, np.uint8), labels.affine), items[1]["label"])
    with pytest.raises(ValueError, match="oblique_seg.nii.gz: every voxel is 0"):
        loaded_dataset(items, preparation(), cache and str(tmp_path / cache), progress=False)


def test_an_empty_list_gives_an_empty_epoch():
    assert len(SeededDataset(loaded_dataset([], preparation(), progress=False), DrawCubed(16), 8)) == 0


def test_cubes_that_cannot_be():
    for wrong in ({"size": 0}, {"objects": 0}, {"spacing": 0.0}):
        with pytest.raises(ValueError, match="expected positive numbers"):
            DrawCubed(**wrong)
    with pytest.raises(ValueError, match="upright 1.5: expected a share of the cubes"):
        DrawCubed(upright=1.5)
