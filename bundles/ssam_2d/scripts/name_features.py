# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Text features of label names: the network's own for its labels, a text model's for other names."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import torch
from torch import Tensor

from .common.label_names import matched
from .text_features import TABLE, encode_names


def name_features(
    names: Sequence[str], labels: Sequence[str], features: Tensor, text_model: str | None = None
) -> Tensor:
    """(K, text_dim): the text features of the names.

    Args:
        names: any; those among ``labels`` need no text model.
        labels, features: of the network, (L, text_dim).
        text_model: where unknown names are encoded, see :func:`.text_features.encode_names`. It has to be the one that
            the labels were trained with.

    Raises:
        ValueError: an unknown name and no text model, or a text model that is not the labels' own.
    """
    known = [matched(name, labels) for name in names]
    unknown = [name for name, label in zip(names, known, strict=True) if label is None]
    encoded = dict(zip(unknown, encode_unknown(unknown, labels, features, text_model), strict=True)) if unknown else {}
    rows = [
        encoded[name] if label is None else features[labels.index(label)]
        for name, label in zip(names, known, strict=True)
    ]
    return torch.stack(rows) if rows else features.new_empty(0, features.shape[1])


def encode_unknown(names: Sequence[str], labels: Sequence[str], features: Tensor, text_model: str | None) -> Tensor:
    """Features of names that the network was not trained on; see :func:`name_features`."""
    # The table has a vector for every name, and in those that were not trained there is no meaning.
    if not text_model or text_model == TABLE:
        near = {name: get_close_matches(name.casefold(), [label.casefold() for label in labels]) for name in names}
        hints = "; ".join(f"{name!r} is near to {', '.join(found)}" for name, found in near.items() if found)
        raise ValueError(
            f"unknown label {', '.join(map(repr, names))}: the network knows {', '.join(labels) or 'none'}"
            f"{'; ' + hints if hints else ''}. For other names give the text_model that it was trained with"
        )
    if labels:
        own = encode_names(labels[:1], text_model, features.shape[1]).to(features)
        if torch.cosine_similarity(own, features[:1]).item() < 0.99:
            raise ValueError(
                f"text_model {text_model} is not the one that the labels were trained with: it gives another vector "
                f"for {labels[0]!r}; expected that one, or a name out of {', '.join(labels)}"
            )
    return encode_names(names, text_model, features.shape[1]).to(features)
