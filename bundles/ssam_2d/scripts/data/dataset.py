# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Labelled images in memory, all of them checked first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai.data import CacheDataset, Dataset

from ..common.flags import flag
from ..common.label_table import LabelNames
from ..common.reading.options import MAX_PIXELS
from .items import checked_items


def labelled_dataset(
    data: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    transform: Callable[[Any], Any],
    table: LabelNames | None = None,
    cache_num: int = 500,
    progress: bool = True,
    max_pixels: int = MAX_PIXELS,
    learnt: bool = False,
) -> Dataset:
    """The items through a deterministic transform, the first of them kept in memory.

    Args:
        data: see :func:`.items.labelled_items`.
        labels, table, progress, max_pixels, learnt: see :func:`.items.checked_items`.
        transform: what is kept.
        cache_num: how many images are kept; the others are read each time.

    Raises:
        ValueError: every image or mask that cannot be used, before anything is computed.
    """
    items = checked_items(data, labels, table, progress, max_pixels, learnt)
    if not items or not cache_num:
        return Dataset(items, transform)
    # Another process for each worker would have a cache of its own: one fills it.
    return CacheDataset(
        items, transform, cache_num=cache_num, num_workers=1, progress=flag("progress", progress) and len(items) >= 20
    )
