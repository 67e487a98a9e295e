# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Made-up volumes among the real ones, and the data list of the shipped weights."""

import json

import nibabel as nib
import numpy as np
import torch

from bundles.fastsam3d.scripts.training.cubes import FEWEST_VOXELS
from bundles.fastsam3d.scripts.training.data import DrawCubed
from tools.research.made_up import MakeUpd, made_up_volume
from tools.research.training_sets import main

SIZE = 48


def item(objects):
    label = torch.zeros(1, 24, 24, 24, dtype=torch.uint8)
    for i in range(objects):
        label[0, 2 * i : 2 * i + 2, 4:20, 4:20] = i + 1
    image = torch.rand(label.shape, generator=torch.Generator().manual_seed(0)) + label
    return {
        "image": image,
        "label": label,
        "affine": torch.eye(4, dtype=torch.float64),
        "bounds": torch.tensor([0.0, float(objects)], dtype=torch.float64),
        "targets": tuple((i + 1,) for i in range(objects)),
        "name": "real",
        "size": SIZE,
    }


def drawn(transform, seed, data):
    transform.set_random_state(seed=seed)
    return transform(data)


def test_so_many_items_are_made_up_and_so_many_repainted():
    make, few, many = MakeUpd(share=0.4, repainted=0.5), item(2), item(10)
    names = [drawn(make, seed, few)["name"] for seed in range(100)]
    assert 25 < names.count("made up") < 55
    assert all(drawn(make, seed, few)["image"] is few["image"] for seed in range(30) if names[seed] == "real")
    others = [drawn(make, seed, many) for seed in range(100)]
    painted = [o for o in others if o["name"] == "real" and o["image"] is not many["image"]]
    assert 18 < len(painted) < 45
    for one in painted[:5]:
        assert one["label"] is many["label"] and one["image"].shape == many["image"].shape
        assert one["bounds"][1] > one["bounds"][0]


def test_a_made_up_volume_can_be_cut():
    """Cubes are normalised, show their objects, and are the same for the same chance."""
    draw = DrawCubed(SIZE, 1.5 * 128 / SIZE, objects=3)
    for seed in range(4):
        cubes = []
        for _ in range(2):
            volume = {**made_up_volume(np.random.default_rng(seed), SIZE), "size": SIZE}
            cubes.append(drawn(draw, seed, volume))
        assert torch.equal(cubes[0]["image"], cubes[1]["image"])
        assert cubes[0]["image"].shape == (1, SIZE, SIZE, SIZE) and cubes[0]["label"].shape == (3, 1, SIZE, SIZE, SIZE)
        assert torch.isfinite(cubes[0]["image"]).all() and abs(float(cubes[0]["image"].mean())) < 1e-3
        assert (cubes[0]["label"].flatten(1).sum(1) >= FEWEST_VOXELS // 8).all()


def test_the_list_names_sets_and_keeps_out_what_is_kept_out(tmp_path, capsys):
    for i in range(25):
        for kind in ("images", "labels"):
            file = tmp_path / "msd_hippocampus" / kind / f"hippocampus_{i:03d}.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(np.full((4, 4, 4), i % 3, np.uint8), np.eye(4)), file)
    out = tmp_path / "lists" / "sets.json"
    assert main([str(tmp_path), str(out)]) == 0
    content = json.loads(out.read_text())
    assert len(content["training"]) == 5 and len(content["validation"]) == 20
    assert {i["set"] for i in content["training"]} == {"msd_hippocampus"}
    images = [{i["image"] for i in content[section]} for section in ("training", "validation")]
    assert not images[0] & images[1]
    assert "5 of msd_hippocampus" in capsys.readouterr().out
    assert main([str(tmp_path / "lists"), str(out)]) == 1
    assert "none of the sets" in capsys.readouterr().err
