# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Which cube comes next, decided from what was seen alone."""

import numpy as np
import pytest
import torch
from volumes import grid_around

from bundles.fastsam3d.scripts.common.geometry import Grid, cube_around
from bundles.fastsam3d.scripts.common.prompts import ObjectPrompt
from bundles.fastsam3d.scripts.inference.search import (
    Look,
    Settings,
    Stage,
    View,
    cubes_looked_at,
    making_up_the_mask,
    next_look,
)
from bundles.fastsam3d.scripts.inference.target import Target, shared_cubes

IMAGE = grid_around(np.diag([1.0, 1.0, 1.0]), (200, 200, 200), (0, 0, 0))
SETTINGS = Settings(cube_size=32, small_cube_size=24, spacing=1.5, rounds=3)


def target(*clicks_mm: tuple[float, float, float], last: str | None = None) -> Target:
    places = np.array(clicks_mm, dtype=float)
    cube = cube_around(places[0], 1.5, 32)
    ones, order = np.ones(len(places), dtype=int), np.arange(len(places))
    return Target(ObjectPrompt("a", previous_mask=last), places, ones, order, None, cube)


def seen(look: Look, cells: int) -> View:
    """A block of ``cells`` a side in the middle of the cube of a look."""
    logits = torch.full((1, 32, 32, 32), -1.0)
    part = slice(16 - cells // 2, 16 + (cells + 1) // 2)
    logits[0, part, part, part] = 1.0
    inside = torch.ones(32, 32, 32, dtype=torch.bool)
    return View(look, Grid(look.cube.affine, (32, 32, 32)), logits, inside, 0.5)


def walk(what: Target, *sizes: int) -> list[View]:
    """Looks that find blocks of these sizes, until there is no further look."""
    views: list[View] = []
    for cells in sizes:
        look = next_look(what, tuple(views), IMAGE, SETTINGS)
        assert look is not None, "fewer looks than expected"
        views.append(seen(look, cells))
    assert next_look(what, tuple(views), IMAGE, SETTINGS) is None
    return views


@pytest.mark.parametrize(
    ("clicks", "found", "stages"),
    [
        # Of the usual size: asked once, in all rounds, and with the second click.
        (1, (16, 16), ["glimpse", "first"]),
        (2, (16, 16, 16), ["glimpse", "first", "clicks"]),
        # Very small at once; small only in all rounds; small only after the second click.
        (2, (4, 12), ["glimpse", "clicks"]),
        (2, (16, 8, 16), ["glimpse", "first", "clicks"]),
        (2, (16, 16, 8, 12), ["glimpse", "first", "clicks", "within"]),
        # It reaches the border of two cubes.
        (2, (16, 16, 32, 32, 12), ["glimpse", "first", "clicks", "around", "around"]),
        # Nothing found.
        (1, (0, 0), ["glimpse", "first"]),
    ],
)
def test_the_stages(clicks, found, stages):
    what = target(*[(0.0, 0, 0), (2.0, 0, 0)][:clicks])
    views = walk(what, *found)
    assert [v.look.stage.value for v in views] == stages
    assert views[0].look.rounds == 1 and all(v.look.rounds == 3 for v in views[1:])
    assert views[-1].look.clicks == clicks and views[0].look.clicks == 1
    # Shown anew in the first cube alone.
    assert [v.look.anew for v in views] == [v.look.cube is views[0].look.cube for v in views]


def test_a_click_far_away_asks_for_coarser_cubes():
    views = walk(target((0.0, 0, 0), (60.0, 0, 0)), 16, 16, 16, 16, 16)
    assert [v.look.stage for v in views[3:]] == [Stage.AROUND] * 2
    assert views[3].look.why == "a click lies outside the cube" and views[-1].look.cube.holds(np.array([60.0, 0, 0]))


def test_the_search_ends_with_the_whole_image():
    views = walk(target((0.0, 0, 0)), *[32] * 5)
    widths = [float(v.look.cube.spacing[0]) * 32 for v in views]
    assert widths == [48, 48, 96, 192, 200]


def test_which_views_make_up_the_mask():
    around = walk(target((0.0, 0, 0)), 16, 32, 32, 12)
    assert making_up_the_mask(around) == around[1:]
    within = walk(target((0.0, 0, 0), (2.0, 0, 0)), 16, 16, 8, 12)
    assert making_up_the_mask(within) == [within[3], within[2]]
    small = walk(target((0.0, 0, 0)), 4, 12)
    assert making_up_the_mask(small) == small[1:]
    assert [look.why for look in cubes_looked_at(within)] == ["first prompt", "the mask is small"]
    assert [look.why for look in cubes_looked_at(small)] == ["first prompt", "the mask is small"]


def test_a_last_mask_sums_up_all_clicks():
    look = next_look(target((0.0, 0, 0), (2.0, 0, 0), last="mask"), (), IMAGE, SETTINGS)
    assert look.clicks == 2


def test_objects_close_together_share_a_cube():
    cubes = [cube_around((x, 0, 0), spacing, 32) for x, spacing in ((0, 1.5), (11, 1.5), (13, 1.5), (1, 3.0))]
    shared = shared_cubes(cubes)
    assert [next(i for i, c in enumerate(cubes) if c is s) for s in shared] == [0, 0, 2, 3]
