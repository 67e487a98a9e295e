# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The recipe of the shipped weights: the command of docs/notebook/weights.md, small and short, killed and resumed."""

import re
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from small_networks import CONFIGS
from workflows import run_until_killed

DATA = Path(__file__).parents[4] / "tools" / "research" / "shipped_data.json"
RECIPE = ("train.json", "default_weights.json", str(DATA))
# Sets that the small data list does not have; made-up volumes of 24 voxels show no object of a cube's usual size.
SMALL = {"shares": None, "sizes": [16, 24], "ckpt_path": "", "draws": 8, "save_every": 2, "made_up#share": 0.5}


def weights(folder):
    return torch.load(folder / "model.pt", weights_only=True)


def test_the_default_recipe_is_killed_and_goes_on(train, tmp_path):
    options = {**SMALL, "max_epochs": 2}
    whole = train(*RECIPE, output_dir=tmp_path / "whole", **options)
    run_until_killed(10, train, *RECIPE, output_dir=tmp_path / "parts", **options)
    parts = train(*RECIPE, output_dir=tmp_path / "parts", resume=True, **options)
    ours, theirs = weights(parts), weights(whole)
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    state = torch.load(whole / "state.pt", weights_only=True)
    assert state["settings"]["made_up"] == [0.5, 0.3] and state["parts"]["average"]["n_averaged"] == 16
    # All of it learns, and what is written is the average, not the last step's weights.
    last = state["parts"]["network"]
    assert any(not torch.equal(last[k], theirs[k]) for k in theirs)


def test_minutes_end_it(train):
    folder = train(*RECIPE, **SMALL, max_minutes=0.001)
    state = torch.load(folder / "state.pt", weights_only=True)
    assert state["iteration"] == 1 and state["parts"]["so_far"]["seconds"] > 0.06
    assert (folder / "model.pt").is_file()


def test_users_have_the_recipe_of_the_shipped_weights():
    """What the recipe changes is what learns, how fast and how long; never the person, the cubes or the average."""
    recipe = ConfigParser.load_config_file(str(CONFIGS / "default_weights.json"))
    same = ("clicking", "rehearsed", "sizes", "upright", "average", "objects", "spacing", "rounds", "one_way")
    assert not [k for k in recipe if k.partition("#")[0] in same]
    train, inference = (ConfigParser.load_config_file(str(CONFIGS / f"{n}.json")) for n in ("train", "inference"))
    assert all(train[k] == inference[k] for k in ("rounds", "one_way", "cube_size", "window"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"made_up#share": 1.5}, "share 1.5, repainted 0.3: expected shares from 0 to 1"),
        ({"shares": {"liver": 2}}, "expected positive numbers for the data sets"),
        ({"sizes": [16, 20]}, r"sizes is \[16, 20\]: expected .* multiple of 8"),
        ({"average": 1.2}, "average.*1.2.*expected"),
        ({"max_minutes": 0}, "max_minutes.*0.*expected"),
        ({"rehearsed": [0, -1]}, "rehearsed.*expected"),
    ],
)
def test_options_that_cannot_be(train, tmp_path, options, message):
    with pytest.raises(Exception) as caught:
        train(*RECIPE, **{**SMALL, **options})
    error, said = caught.value, []
    while error is not None:
        said.append(str(error))
        error = error.__cause__
    assert any(re.search(message, text) for text in said), said
    assert not (tmp_path / "out" / "model.pt").exists()
