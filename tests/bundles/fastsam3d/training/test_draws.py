# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Which volumes and how large cubes a step sees."""

from collections import Counter

import numpy as np
import pytest
from monai.transforms import Randomizable

from bundles.fastsam3d.scripts.training.cubes import joined_targets
from bundles.fastsam3d.scripts.training.draws import CubeBatches, CubeDraws

ITEMS = [{"name": name} for name in "abcdef"]
SETS = ["liver", "liver", "liver", "liver", "brain", "spine"]


class Marked(Randomizable):
    """A transform that shows its chance."""

    def __call__(self, data):
        return data["name"], data["size"], int(self.R.randint(10**6))


def epoch(batches, number):
    batches.set_epoch(number)
    return list(batches)


def test_sizes_take_turns_and_small_cubes_come_in_twos():
    batches = CubeBatches(24, [64, 96, 128, 64, 96])
    assert len(batches) == 18
    first, second = epoch(batches, 1), epoch(batches, 2)
    assert [batch[0][1] for batch in first[:6]] == [64, 96, 128, 64, 96, 64]
    assert [len(batch) for batch in first[:6]] == [2, 1, 1, 2, 1, 2]
    # The turns go on where the epoch before left them: 18 = 3 of 5.
    assert [batch[0][1] for batch in second[:3]] == [64, 96, 64]
    assert [n for batch in first for n, _ in batch] == list(range(sum(map(len, first))))
    assert epoch(batches, 1) == first


def test_a_batch_is_so_many_cubes_of_one_size():
    for batch in CubeBatches(40, [32, 128], batch_size=3):
        assert len({size for _, size in batch}) == 1
        assert len(batch) == (6 if batch[0][1] == 32 else 3)
    assert [len(b) for b in CubeBatches(7, [16], batch_size=2)] == [2, 2, 2, 2]


def test_processes_share_what_one_process_sees():
    one = list(CubeBatches(16, [16, 32], batch_size=2))
    two = [list(CubeBatches(16, [16, 32], batch_size=1, num_replicas=2, rank=rank)) for rank in range(2)]
    assert len(two[0]) == len(two[1]) == len(one)
    for together, *parts in zip(one, *two, strict=True):
        assert sorted(sum(parts, [])) == together


@pytest.mark.parametrize("sizes", [[], [100], [0], [-8], [64.0], ["64"]])
def test_sizes_that_cannot_be(sizes):
    with pytest.raises(ValueError, match="sizes .*expected voxels a side, multiples of 8"):
        CubeBatches(8, sizes)


def test_every_volume_comes_once_before_any_comes_again():
    draws = CubeDraws(ITEMS, Marked(), length=12)
    orders = []
    for seed in (1, 2):
        draws.start_epoch(seed)
        orders.append([draws[i, 16][0] for i in range(12)])
        assert sorted(orders[-1][:6]) == sorted(orders[-1][6:]) == list("abcdef")
    assert orders[0] != orders[1]
    assert draws[3, 16] == draws[3, 16] and draws[3, 24][1] == 24
    assert len({draws[i, 16][2] for i in range(12)}) == 12


def test_data_sets_come_as_often_as_their_shares_say():
    draws = CubeDraws(ITEMS, Marked(), length=3000, seed=5, sets=SETS, shares={"liver": 2, "brain": 3})
    seen = Counter(draws[i, 16][0] for i in range(3000))
    expected = np.array([0.5, 0.5, 0.5, 0.5, 3, 1]) / 6
    np.testing.assert_allclose([seen[n] / 3000 for n in "abcdef"], expected, atol=0.03)


@pytest.mark.parametrize("shares", [{"kidney": 1}, {"liver": 0}, {"liver": -1}, {"liver": float("nan")}])
def test_shares_that_cannot_be(shares):
    with pytest.raises(ValueError, match="expected positive numbers for the data sets brain, liver, spine"):
        CubeDraws(ITEMS, Marked(), sets=SETS, shares=shares)


def test_classes_of_one_first_word_are_an_object_together():
    names = {1: "kidney_left", 2: "kidney_right", 3: "liver", 4: "spleen", 5: "aorta"}
    assert joined_targets([1, 2, 3, 4, 5], names) == ((1,), (1, 2), (2,), (3,), (4,), (5,))
    assert joined_targets([1, 2, 3], names) == ((1,), (1, 2), (1, 2, 3), (2,), (3,))
    assert joined_targets([1, 2], {}) == ((1,), (1, 2), (2,))
