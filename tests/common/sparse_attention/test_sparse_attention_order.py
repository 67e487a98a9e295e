# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.
import itertools

import pytest
import torch

from common.sparse_attention import morton_order, sparse_attention

GRIDS = [(1, 1, 1), (2, 2, 2), (8, 8, 8), (5, 6, 7), (1, 9, 2), (3, 1, 1), (16, 4, 2), (13, 13, 13)]


@pytest.mark.parametrize("grid", GRIDS)
def test_is_a_permutation_and_argsort_undoes_it(grid):
    order = morton_order(grid)
    tokens = grid[0] * grid[1] * grid[2]
    assert order.dtype == torch.int64 and torch.equal(order.sort().values, torch.arange(tokens))
    x = torch.randn(2, tokens, 3)
    assert torch.equal(x[:, order][:, order.argsort()], x)


@pytest.mark.parametrize("side", [2, 4, 8, 16])
def test_segments_are_compact_cubes(side):
    places = torch.stack(torch.unravel_index(morton_order((side, side, side)), (side, side, side)), dim=1)
    edge = 2
    while edge <= side:
        segments = places.reshape(-1, edge**3, 3)
        extent = segments.amax(dim=1) - segments.amin(dim=1)
        assert torch.equal(extent, torch.full_like(extent, edge - 1))
        edge *= 2


@pytest.mark.parametrize("grid", GRIDS)
def test_follows_the_interleaved_bits(grid):
    def code(place):
        return sum(((place[axis] >> bit) & 1) << (3 * bit + 2 - axis) for bit in range(5) for axis in range(3))

    raster = list(itertools.product(*map(range, grid)))
    expected = sorted(range(len(raster)), key=lambda token: code(raster[token]))
    assert morton_order(grid).tolist() == expected


def test_attention_in_morton_order_stays_in_each_cube():
    """Segments of 8 tokens of a 4 x 4 x 4 grid against attention inside each 2 x 2 x 2 cube, cut out by hand."""
    x = torch.randn(1, 2, 4, 4, 4, 16)
    order = morton_order((4, 4, 4))
    tokens = x.flatten(2, 4)[:, :, order]
    out = sparse_attention(tokens, tokens, tokens, ((8, 1),))[:, :, order.argsort()].reshape_as(x)
    for corner in itertools.product((0, 2), repeat=3):
        cube = (slice(None), slice(None), *(slice(start, start + 2) for start in corner))
        inside = x[cube].flatten(2, 4)
        expected = torch.nn.functional.scaled_dot_product_attention(inside, inside, inside)
        assert torch.allclose(out[cube].flatten(2, 4), expected, atol=1e-6)


def test_is_computed_once():
    assert morton_order((6, 6, 6)) is morton_order((6, 6, 6), "cpu")


@pytest.mark.parametrize("grid", [(0, 2, 2), (4, 4), (2, 2, -1)])
def test_refuses_what_is_no_grid(grid):
    with pytest.raises(ValueError, match="three numbers"):
        morton_order(grid)
