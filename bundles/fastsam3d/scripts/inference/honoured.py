# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The clicked voxels themselves: each is foreground or background as clicked, whatever the network answers."""

from __future__ import annotations

import torch
from torch import Tensor

from ..networks.prompt_encoder import FOREGROUND

# The logit around a click that the network did not follow.
SURE = 2.0


def honoured(logits: Tensor, places: Tensor, labels: Tensor, found: bool = False) -> tuple[Tensor, int]:
    """The logits, changed in the cells around each click that they contradict.

    Where nothing was found at all it stays so: a speck around the click would look like an answer.

    Args:
        logits: (1, D, H, W).
        places: (P, 3) indices of the clicks among the cells, not rounded; the newest last.
        labels: (P,) 1 foreground, 0 background.
        found: whether other logits found something of the object.

    Returns:
        (1, D, H, W), the same tensor where they contradict none, and how many they contradict. Of clicks between the
        same cells the newest counts.
    """
    wrong = contradicted(logits, places, labels)
    if not bool(wrong.any()) or not (found or bool((logits > 0).any())):
        return logits, 0
    logits = logits.clone()
    (x, y, z), _ = _between(logits, places)
    for i in range(int(wrong.nonzero()[0]), len(places)):
        # A later click that was followed may lie between the same cells.
        if bool(contradicted(logits, places[i : i + 1], labels[i : i + 1]).any()):
            logits[0, x[i], y[i], z[i]] = SURE if labels[i] == FOREGROUND else -SURE
    return logits, int(wrong.sum())


def contradicted(logits: Tensor, places: Tensor, labels: Tensor) -> Tensor:
    """(P,) bool: the clicks that the logits, interpolated at them, contradict; arguments as of :func:`honoured`."""
    (x, y, z), shares = _between(logits, places)
    return ((logits[0, x, y, z] * shares).sum(1) > 0) != (labels == FOREGROUND)


def _between(logits: Tensor, places: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """The eight cells between which the logit at each place is interpolated, three times (P, 8), and their shares."""
    size = torch.tensor(logits.shape[1:], device=logits.device)
    low = places.floor()
    beyond = (places - low)[:, None]
    corners = torch.cartesian_prod(*[torch.arange(2, device=logits.device)] * 3)
    # Beyond the outermost cells they are repeated.
    cells = (low.long()[:, None] + corners).clamp(min=0).minimum(size - 1)
    return cells.unbind(-1), torch.where(corners == 1, beyond, 1 - beyond).prod(-1)
