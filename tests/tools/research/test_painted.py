# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Images painted from label maps: what may be asked for, how they look, and that they can be cut."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from bundles.fastsam3d.scripts.training.cubes import FEWEST_VOXELS
from bundles.fastsam3d.scripts.training.data import DrawCubed
from tools.research.label_maps import label_maps, tissue
from tools.research.painted import Paintedd, Structures, look, plausible_objects

SIZE = 32
NAMES = {"3": "left thalamus", "4": "right thalamus", "7": "lateral ventricle", "9": "cerebral cortex"}


@pytest.fixture
def data(tmp_path):
    """Two heads of a shared set: a ball of cortex with two nuclei and a ventricle between them."""
    x, y, z = np.indices((48, 48, 48))
    head = np.where((x - 24) ** 2 + (y - 24) ** 2 + (z - 24) ** 2 < 20**2, 9, 0).astype(np.int16)
    head[14:21, 18:30, 18:30], head[21:27, 18:30, 18:30], head[27:34, 18:30, 18:30] = 3, 7, 4
    folder = tmp_path / "synthseg_labels"
    folder.mkdir()
    (folder / "labels.json").write_text(json.dumps(NAMES))
    for i in range(2):
        # Stored from right to left: maps are read as RAS.
        image = nib.Nifti1Image(np.ascontiguousarray(head[::-1]), np.diag([-1.0, 1, 1, 1]))
        nib.save(image, folder / f"seg_{i}_label.nii.gz")
    return tmp_path


def test_maps_are_read_along_the_axes_of_the_body(data):
    one, other = label_maps(data)
    assert one.names[3] == "left thalamus" and one.boxes[3][0] == slice(14, 21)
    np.testing.assert_array_equal(one.labels, other.labels)
    with pytest.raises(ValueError, match="no label maps"):
        list(label_maps(data / "synthseg_labels"))


@pytest.mark.parametrize(
    ("name", "made_of"),
    [
        ("left lateral ventricle", "fluid"),
        ("right cerebral white matter", "white"),
        ("left cerebral white matter, second class (lesion)", "lesion"),
        ("left caudate nucleus", "deep"),
        ("mandible", "bone"),
        ("left parotid gland", "organ"),
        ("left lung", "air"),
        ("left precentral gyrus", "grey"),
    ],
)
def test_names_say_what_structures_are_made_of(name, made_of):
    assert tissue(name) == made_of


def test_one_click_may_mean_a_part_both_sides_a_tissue_or_the_whole():
    labels = np.zeros((24, 24, 24), np.uint8)
    labels[2:22, 2:22, 2:22] = 4
    labels[4:10, 8:16, 8:16], labels[10:14, 8:16, 8:16], labels[14:20, 8:16, 8:16] = 1, 3, 2
    structures = Structures(["left thalamus", "right thalamus", "lateral ventricle", "cerebral cortex"])
    drawn = [plausible_objects(labels, structures, np.random.default_rng(seed)) for seed in range(100)]
    parts = {("left thalamus",), ("right thalamus",), ("lateral ventricle",), ("cerebral cortex",)}
    assert all(parts <= set(found) for found in drawn)
    asked = lambda *names: np.mean([any(set(one) == set(names) for one in found) for found in drawn])  # noqa: E731
    assert 0.5 < asked("left thalamus", "right thalamus")
    assert 0.1 < asked(*structures.names[1:]) < 0.7
    assert asked("left thalamus", "lateral ventricle") > 0


def test_a_t1_weighted_head_has_dark_fluid_and_bright_white_matter_and_both_sides_alike():
    structures = Structures(["lateral ventricle", "cerebral cortex", "white matter", "left thalamus", "right thalamus"])
    seen = [look(structures, np.random.default_rng(seed)) for seed in range(200)]
    rising = [m[1] < m[2] < m[3] for ct, m in seen if not ct]
    assert np.mean(rising) > 0.25
    assert np.mean([m[4] == m[5] for _, m in seen]) > 0.8
    assert all(0 <= m.min() and m.max() <= 1 and m[0] < 0.2 or not ct for ct, m in seen)


def test_painted_items_come_in_their_share_and_can_be_cut(data):
    paint, draw = Paintedd(data, share=0.4), DrawCubed(SIZE, 6.0, objects=2)
    real = {"name": "real", "size": SIZE}
    items = []
    for seed in range(60):
        paint.set_random_state(seed=seed)
        items.append(paint(real))
    painted = [item for item in items if item["name"] != "real"]
    assert 12 < len(painted) < 36
    for item in painted[:6]:
        draw.set_random_state(seed=1)
        cube = draw(item)
        assert cube["image"].shape == (1, SIZE, SIZE, SIZE) and torch.isfinite(cube["image"]).all()
        assert (cube["label"].flatten(1).sum(1) >= FEWEST_VOXELS // 16).all()
    paint.set_random_state(seed=3)
    again = [paint(real) for _ in range(5)]
    paint.set_random_state(seed=3)
    for one, other in zip(again, [paint(real) for _ in range(5)], strict=True):
        assert one["name"] == other["name"] and ("image" not in one or torch.equal(one["image"], other["image"]))


def test_a_share_is_from_0_to_1(data):
    with pytest.raises(ValueError, match="share 1.5"):
        Paintedd(data, 1.5)
