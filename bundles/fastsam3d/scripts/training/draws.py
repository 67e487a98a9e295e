# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Which volumes a step of the training draws from, and how large its cubes are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from ..common.training.seeded_dataset import SeededDataset


class CubeBatches(Sampler):
    """The number and the voxels a side of each cube of each step: sizes take turns.

    Small cubes cost little and let a step see many objects; large ones are what inference shows.

    Args:
        draws: cubes in an epoch, more or less: an epoch has whole steps.
        sizes: voxels a side, one after the other, step by step. Of those at most half as large as the largest there are
            twice as many cubes in a step.
        batch_size: cubes of a step, for each process.
        num_replicas: processes.
        rank: which of them this is. Together they see what one process with their summed batch sees.

    Raises:
        ValueError: sizes that are no multiples of 8, or a batch without cubes.
    """

    def __init__(
        self, draws: int, sizes: Sequence[int], batch_size: int = 1, num_replicas: int = 1, rank: int = 0
    ) -> None:
        whole = all(isinstance(s, int) and s > 0 and s % 8 == 0 for s in sizes)
        if not sizes or not whole or batch_size < 1:
            raise ValueError(
                f"sizes {list(sizes)}, batch_size {batch_size}: expected voxels a side, multiples of 8, and 1 cube or "
                "more in a batch"
            )
        self.sizes = list(sizes)
        self.counts = [batch_size * (2 if 2 * s <= max(sizes) else 1) for s in sizes]
        self.replicas, self.rank = num_replicas, rank
        self.batches = math.ceil(draws * len(sizes) / (num_replicas * sum(self.counts)))
        self.first = 0

    def set_epoch(self, epoch: int) -> None:
        """Epochs count from 1; each takes up the turns where the one before left them."""
        self.first = (epoch - 1) * self.batches

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        number = 0
        for step in range(self.first, self.first + self.batches):
            size, count = (x[step % len(self.sizes)] for x in (self.sizes, self.counts))
            yield [(number + self.rank + i * self.replicas, size) for i in range(count)]
            number += count * self.replicas


class CubeDraws(SeededDataset):
    """A :class:`..common.training.seeded_dataset.SeededDataset` by (number, voxels a side), see :class:`CubeBatches`.

    The transform finds the voxels a side as ``size``. In an epoch the volumes come in an order of its own, or by chance
    where data sets have shares.

    Args:
        data, transform: as there.
        sets: the data set of each item.
        shares: how often each data set is drawn, relative to the others, whatever the number of its volumes; those that
            are not named have a share of 1. None to draw each volume as often as any other.
        draws: ``length``, ``seed`` and ``fixed``, as there.

    Raises:
        ValueError: a share of a data set that is not there, or shares that are no positive numbers.
    """

    def __init__(
        self,
        data: Sequence[Any],
        transform: Callable[[Any], Any],
        *,
        sets: Sequence[str] = (),
        shares: Mapping[str, float] | None = None,
        **draws: Any,
    ) -> None:
        super().__init__(data, transform, **draws)
        self.weights: np.ndarray | None = None
        if shares is not None:
            unknown = sorted(set(shares) - set(sets))
            if unknown or not all(math.isfinite(s) and s > 0 for s in shares.values()):
                known = ", ".join(sorted(set(sets)))
                raise ValueError(
                    f"shares {dict(shares)}: expected positive numbers for the data sets {known}, which the items of "
                    "the data list name as set"
                )
            weights = np.array([shares.get(s, 1.0) / sets.count(s) for s in sets])
            self.weights = weights / weights.sum()

    def __getitem__(self, draw: tuple[int, int]) -> Any:
        number, size = draw
        return self.transformed({**self.data[self._item(number)], "size": size}, number)

    def _item(self, number: int) -> int:
        if self.weights is None:
            return int(np.random.default_rng(self.seed).permutation(len(self.data))[number % len(self.data)])
        return int(np.random.default_rng((self.seed, number, 1)).choice(len(self.data), p=self.weights))
