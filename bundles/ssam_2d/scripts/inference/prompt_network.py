# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The weights that answer clicks and boxes without a name. Tuning by names makes a network forget such prompts."""

from __future__ import annotations

import copy
from pathlib import Path

from torch import nn

from ..common.weights import describe_weights
from ..stored_weights import StoredWeights


class PromptNetwork:
    """A second network of the same form, with the weights of a SAM; they are read when the first prompt asks for them.

    Args:
        network: see :class:`..networks.ssam.SSAM`; it is copied, and not changed.
        path: of the SAM; without one, the network itself answers.

    Attributes:
        described: the file's name and hash, once it was read.
    """

    def __init__(self, network: nn.Module, path: str | Path | None = None) -> None:
        self.weights = StoredWeights(path) if path else None
        # At once, before anything is tuned into it.
        self._network = copy.deepcopy(network) if path else None
        self.described: dict[str, str] | None = None

    def of(self, network: nn.Module) -> nn.Module:
        """Who answers prompts without a name in the place of ``network``, on its device.

        A network that knows no names is a SAM already, and answers itself.

        Raises:
            ValueError: missing weights, or those of another architecture.
        """
        if self._network is None or not network.labels:
            return network
        if self.described is None:
            try:
                self.weights.load_base(self._network)
            except ValueError as problem:
                raise ValueError(
                    f"{problem}. These weights answer clicks and boxes without a name: give prompt_path, the SAM that "
                    "the weights were tuned from, or null for the weights themselves"
                ) from problem
            self.described = describe_weights(self.weights.path)
        return self._network.to(network.label_features.device).eval()
