# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A data set whose random draws do not depend on the process that draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from monai.data.utils import set_rnd
from torch.utils.data import Dataset


class SeededDataset(Dataset):
    """Random draws from prepared items: what draw i gives follows from the seed and i alone.

    The same for any number of workers and processes: two processes with half the batch each see what one process with
    all of it sees. :class:`EpochSeeds` gives it another seed each epoch.

    Args:
        data: items, loaded by deterministic transforms and maybe cached; draw i takes item i modulo their number.
        transform: random MONAI transforms.
        length: draws in an epoch; None for one of each item.
        seed: until an epoch gives another one.
        fixed: keep the seed, so that every epoch draws the same (for features that are cached, and for validation).
    """

    def __init__(
        self,
        data: Sequence[Any],
        transform: Callable[[Any], Any],
        length: int | None = None,
        seed: int = 0,
        fixed: bool = False,
    ) -> None:
        self.data = data
        self.transform = transform
        self.length = (length or len(data)) if len(data) else 0
        self.seed = seed
        self.fixed = fixed

    def start_epoch(self, seed: int) -> None:
        """Draw others from now on.

        Not by MONAI's ``set_random_state``, which loaders call in each worker with another seed.
        """
        if not self.fixed:
            self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.length:
            raise IndexError(f"draw {index} of {self.length}")
        return self.transformed(self.data[index % len(self.data)], index)

    def transformed(self, item: Any, index: int) -> Any:
        """An item, transformed with the random numbers of draw ``index``."""
        set_rnd(self.transform, int(np.random.SeedSequence((self.seed, index)).generate_state(1)[0]))
        return self.transform(item)
