# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The network that is fine-tuned: a base, the labels of the data, and the tensors that training may change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints import load_start
from ..common.svd_affine import Adaptation, Adapter, adapt
from ..lite_medsam import located, warn_of_others
from ..networks.lite_medsam import is_lite_medsam
from ..networks.ssam import LABEL_TENSORS
from ..text_features import encode_names


def adapted(
    network: nn.Module,
    start: str | Path,
    labels: Sequence[str],
    text_model: str,
    device: torch.device,
    method: str,
    targets: Sequence[str],
    trainable: Sequence[str],
    values: int | float | None = None,
    rank: int = 4,
) -> Adaptation:
    """The base with its labels, adapted in place and on its device.

    Args:
        network: see :class:`..networks.ssam.SSAM`.
        start: the base's checkpoint, see :func:`..checkpoints.load_start`; ``lite_medsam`` for the file in the cache.
        labels: the names to learn.
        text_model: what turns them into features, see :func:`..text_features.encode_names`.
        device: to train on.
        method, targets, trainable, values, rank: see :func:`..common.svd_affine.adapt`.

    Raises:
        ValueError: as those three say.
    """
    start = located(start)
    report = load_start(network, start)
    if is_lite_medsam(network):
        warn_of_others(start)
    features = encode_names(labels, text_model, network.label_features.shape[1])
    network.set_labels(labels, features)
    if report.untouched:
        network.text_affine.calibrate(network.label_features)
    adaptation = adapt(network, method, targets, trainable=trainable, apart=LABEL_TENSORS, values=values, rank=rank)
    network.to(device)
    return adaptation


class Tuned:
    """What training changes, as a state: an adapter's tensors. For RunState and BestWeights.

    Args:
        adaptation: of the network.
    """

    def __init__(self, adaptation: Adaptation) -> None:
        self.adaptation = adaptation

    def state_dict(self) -> dict[str, Tensor]:
        """The tuned tensors by name, on the CPU."""
        return self.adaptation.take().tensors

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Tuned tensors put back. Raises ValueError where they are others than the network's."""
        self.adaptation.put(Adapter(self.adaptation.method, self.adaptation.base, state))


def label_features(network: nn.Module) -> dict[str, Tensor]:
    """The network's labels with their text features, as adapters carry them."""
    return dict(zip(network.labels, network.label_features.detach().cpu(), strict=True))
