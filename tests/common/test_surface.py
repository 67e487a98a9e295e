# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Surfaces in scanner space, and their files read back by other code."""

import numpy as np
import pytest
from volumes import CENTRE, Phantom, grid_around, rotation

from common.surface import FAR, SPACE, WRITERS, border_of, smoothed, surface_of

GRIDS = {
    "RAS": grid_around(np.diag([1.0, 1, 1]), (40, 44, 42)),
    "flipped": grid_around(np.diag([-1.0, 1, 1]), (40, 44, 42)),
    "oblique": grid_around(rotation(20, -35, 50) @ np.diag([-1.1, 0.9, 2]), (40, 50, 30)),
    "tilted gantry": grid_around(np.array([[1.0, 0, 0], [0, 1, 0.3], [0, 0, 1.2]]), (40, 44, 40)),
}
BALL = Phantom(((CENTRE[0] + 2, CENTRE[1] - 1, CENTRE[2]), 15))


@pytest.mark.parametrize("grid", [pytest.param(g, id=n) for n, g in GRIDS.items()])
def test_a_ball_lies_where_it_is_and_is_seen_from_outside(grid):
    mask = BALL.truth(grid)
    surface = surface_of(mask, grid)
    centre = BALL.balls[0][0]
    assert np.abs(np.linalg.norm(surface.vertices - centre, axis=1) - 15).max() < np.linalg.norm(grid.spacing) / 2
    voxel = abs(np.linalg.det(grid.affine[:3, :3]))
    assert surface.volume_mm3 == pytest.approx(mask.sum() * voxel, rel=0.01)
    # Closed: every edge belongs to two triangles, which run along it in opposite directions.
    edges = np.concatenate([surface.faces[:, [0, 1]], surface.faces[:, [1, 2]], surface.faces[:, [2, 0]]])
    assert {tuple(e) for e in edges} == {tuple(e) for e in edges[:, ::-1]}


def test_smoothing_moves_no_vertex_far():
    rng = np.random.default_rng(0)
    voxels, faces = border_of(rng.random((12, 13, 14)) > 0.6)
    moved = smoothed(voxels, faces)
    assert 0 < np.abs(moved - voxels).max() <= FAR + 1e-9


def read_stl(content):
    count = int(np.frombuffer(content, "<u4", 1, 80)[0])
    triangles = np.frombuffer(content, [("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")], count, 84)
    assert len(content) == 84 + 50 * count
    return triangles["v"], triangles["n"]


def read_ply(content):
    head, body = content.split(b"end_header\n", 1)
    counts = [int(line.split()[-1]) for line in head.decode().splitlines() if line.startswith("element")]
    vertices = np.frombuffer(body, "<f4", 3 * counts[0]).reshape(-1, 3)
    faces = np.frombuffer(body, [("n", "u1"), ("i", "<i4", 3)], counts[1], vertices.nbytes)
    assert (faces["n"] == 3).all() and SPACE in head.decode() and "comment the ball" in head.decode()
    return vertices[faces["i"]]


def read_obj(content):
    lines = [line.split() for line in content.decode().splitlines()]
    vertices = np.array([line[1:] for line in lines if line[0] == "v"], float)
    return vertices[np.array([line[1:] for line in lines if line[0] == "f"], int) - 1]


@pytest.mark.parametrize("form", WRITERS)
def test_files_hold_the_triangles(tmp_path, form):
    grid = GRIDS["oblique"]
    surface = surface_of(BALL.truth(grid), grid)
    WRITERS[form](tmp_path / "ball", surface, "the ball")
    content = (tmp_path / "ball").read_bytes()
    expected = surface.vertices[surface.faces]
    if form == "stl":
        found, normals = read_stl(content)
        assert content.startswith(b"RAS, mm; the ball") and not content.startswith(b"solid")
        outwards = expected.mean(axis=1) - BALL.balls[0][0]
        assert ((normals * outwards).sum(axis=1) > 0).mean() > 0.99
    else:
        found = {"ply": read_ply, "obj": read_obj}[form](content)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_name_of_several_lines_stays_in_its_line(tmp_path):
    surface = surface_of(BALL.truth(GRIDS["RAS"]), GRIDS["RAS"])
    for form, write in WRITERS.items():
        write(tmp_path / form, surface, "a\nv 1 2 3 ü")
    assert len(read_obj((tmp_path / "obj").read_bytes())) == len(surface.faces)
    assert b"comment a v 1 2 3" in (tmp_path / "ply").read_bytes()
