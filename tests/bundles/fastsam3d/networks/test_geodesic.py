# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Geodesic distances against Dijkstra's shortest paths on the same grid."""

import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from bundles.fastsam3d.scripts.networks.geodesic import FAR, STEP, geodesic_distance, running_minimum
from bundles.fastsam3d.scripts.networks.refiner import nearness


def shortest_paths(image: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Dijkstra on the graph of neighbouring cells."""
    number = np.arange(image.size).reshape(image.shape)
    start, stop, cost = [], [], []
    for axis in range(3):
        low, high = (np.take(number, range(a, image.shape[axis] - 1 + a), axis) for a in (0, 1))
        start.append(low.ravel())
        stop.append(high.ravel())
        cost.append(np.abs(np.diff(image, axis=axis)).ravel() + STEP)
    graph = coo_matrix((np.concatenate(cost), (np.concatenate(start), np.concatenate(stop))), [image.size] * 2)
    return dijkstra(graph.tocsr(), directed=False, indices=number[seeds], min_only=True).reshape(image.shape)


@pytest.mark.parametrize("shape", [(12, 12, 12), (5, 9, 14), (1, 8, 8)])
def test_equal_to_the_shortest_paths(shape):
    rng = np.random.default_rng(0)
    image = rng.normal(size=shape)
    seeds = np.zeros(shape, dtype=bool)
    seeds[0, 3, 2] = seeds[-1, -1, -1] = True
    given = torch.from_numpy(image)[None, None], torch.from_numpy(seeds)[None, None]
    distance = geodesic_distance(*given, rounds=30)[0, 0].numpy()
    np.testing.assert_allclose(distance, shortest_paths(image, seeds), atol=1e-9)


def test_an_edge_is_far_and_the_way_around_it_counts():
    image = torch.zeros(1, 1, 16, 16, 16)
    image[..., 8, :] = 3
    image[..., 8, 15] = 0
    seeds = torch.zeros_like(image, dtype=torch.bool)
    seeds[0, 0, 8, 4, 8] = True
    distance = geodesic_distance(image, seeds)[0, 0]
    # Through the wall it would be 6 and more; around it through the gap it is a walk.
    walk = 7 + 6 + 7
    assert distance[8, 10, 8] == pytest.approx(walk * STEP, abs=1e-5)
    assert distance[8, 4, 12] == pytest.approx(4 * STEP, abs=1e-6)


def test_sets_of_seeds_are_apart_and_none_is_far():
    image = torch.randn(2, 1, 8, 8, 8)
    seeds = torch.zeros(2, 2, 8, 8, 8, dtype=torch.bool)
    seeds[:, 0, 4, 4, 4] = True
    distance = geodesic_distance(image, seeds)
    assert (distance[:, 1] >= FAR - 1).all()
    assert not torch.equal(distance[0, 0], distance[1, 0])
    alone = geodesic_distance(image[:1], seeds[:1])
    assert torch.equal(alone, distance[:1])


def test_nearness_is_one_at_a_seed_and_zero_without():
    seeds = torch.zeros(1, 1, 64, 64, 64)
    seeds[0, 0, 20:23, 30:33, 40:43] = 10
    near = nearness(torch.randn(1, 1, 64, 64, 64), seeds)
    assert near.shape == (1, 4, 64, 64, 64)
    # In order: foreground and background at the first scale, then at the second.
    assert near[0, 0, 21, 31, 41] == near[0, 2, 21, 31, 41] == 1
    assert near[0, [1, 3]].abs().max() == 0
    assert near.min() >= 0 and near.max() <= 1


@pytest.mark.parametrize("size", [1, 2, 3, 8, 13])
@pytest.mark.parametrize("axis", [1, 2])
def test_running_minimum(size, axis):
    x = torch.randn(2, size, size, generator=torch.Generator().manual_seed(size))
    assert torch.equal(running_minimum(x, axis), x.cummin(axis).values)
    assert torch.equal(running_minimum(x, axis, backward=True), x.flip(axis).cummin(axis).values.flip(axis))


def test_the_graph_that_is_exported_measures_the_same():
    image = torch.randn(2, 1, 9, 8, 7, generator=torch.Generator().manual_seed(0))
    seeds = torch.zeros(2, 2, 9, 8, 7, dtype=torch.bool)
    seeds[:, 0, 4, 4, 4] = seeds[0, 1, 8, 0, 6] = True
    traced = torch.jit.trace(geodesic_distance, (image, seeds))
    # Whole steps sum up the costs of a line, row by row the sums are those of each path.
    torch.testing.assert_close(traced(image, seeds), geodesic_distance(image, seeds), atol=1e-4, rtol=1e-5)
