# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Which labels an evaluation scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..data.items import label_list


def scored_labels(
    items: Sequence[Mapping[str, Any]], known: Sequence[str], wanted: Sequence[str] | None = None
) -> list[str]:
    """The labels of the data, or those wanted of them.

    Args:
        items: see :func:`..data.items.labelled_items`.
        known: the network's.
        wanted: a part of the data's.

    Raises:
        ValueError: no data, no names, a wanted name that the data does not have, or one that the network was not
            trained on.
    """
    if not items:
        raise ValueError("no image to evaluate: the section is empty; give --section all, or a larger validation_share")
    labels = label_list(items, wanted)
    unknown = [name for name in labels if name not in known]
    if unknown:
        raise ValueError(
            f"unknown label {', '.join(unknown)}: the weights were trained on {', '.join(known)}; give --labels with "
            "those of the data that they know, or weights that were trained on these labels"
        )
    return labels
