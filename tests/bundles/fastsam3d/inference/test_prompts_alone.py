# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Each documented prompt alone gives a sensible mask with the shipped weights, of a made-up organ and a real one."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from volumes import grid_around

from tools.research.prompts.alone import prompts
from tools.research.prompts.objects import Engine, Labelled, development_objects, dice

DATA = Path(__file__).parents[5] / "shared" / "data"
REAL = "hippocampus/001"


@cache
def engine() -> Engine:
    return Engine()


@cache
def made_up() -> Labelled:
    """A ball of 20 mm radius in a body, noise on both, as a CT shows them."""
    grid = grid_around(np.diag([2.0, 2.0, 2.0]), (64, 64, 48), (0, 0, 0))
    places = grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3)).reshape(*grid.shape, 3)
    ball = np.linalg.norm(places - [10, -6, 4], axis=-1) <= 20
    body = (places[..., 0] / 56) ** 2 + (places[..., 1] / 48) ** 2 <= 1
    values = np.where(ball, 160.0, np.where(body, 30.0, -1000.0))
    values += np.random.default_rng(0).normal(0, 10, grid.shape)
    return Labelled("ball", torch.as_tensor(values).float(), grid, ball)


@cache
def real() -> Labelled:
    found = next(development_objects(DATA, 1, [REAL]), None)
    if found is None:
        pytest.skip(f"the data set msd_hippocampus is not in {DATA}")
    return found


FORMS = tuple(prompts(made_up()))


def found(thing: Labelled, form: str) -> tuple[float, float]:
    """Dice of the mask, and of the last mask that was given (0 where there was none)."""
    asked, masks = prompts(thing)[form]
    given = dice(masks["last"], thing.truth) if "last" in masks else 0.0
    return dice(engine().mask(thing, asked, **masks), thing.truth), given


@pytest.mark.parametrize("form", FORMS)
def test_of_a_made_up_organ(form):
    score, given = found(made_up(), form)
    assert score >= max(0.8, given - 0.05)


@pytest.mark.parametrize("form", FORMS)
def test_of_a_real_hippocampus(form):
    score, given = found(real(), form)
    assert score >= max(0.4, given - 0.05)
