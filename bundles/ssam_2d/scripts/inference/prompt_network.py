# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The weights that answer clicks and boxes without a name. Tuning by names makes a network forget such prompts."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from ..common.precision import computes_bfloat16
from ..common.weights import describe_weights
from ..lite_medsam import COMMAND, LITE_MEDSAM, found, warn_of_others
from ..networks.folded import FoldedTinyViT
from ..networks.lite_medsam import SIZE, lite_medsam
from ..stored_weights import StoredWeights
from ..view import View


class PromptNetwork:
    """A second network of the same form, with the weights of a SAM; they are read when the first prompt asks for them.

    Args:
        network: see :class:`..networks.ssam.SSAM`; it is copied, and not changed.
        path: of the SAM; without one, the network itself answers.
        view: how it sees a picture.

    Attributes:
        described: the file's name and hash, once it was read.
    """

    option = "prompt_path"

    def __init__(self, network: nn.Module, path: str | Path | None = None, view: View | None = None) -> None:
        self.weights = StoredWeights(path) if path else None
        # At once, before anything is tuned into it.
        self._network = copy.deepcopy(network) if path else None
        self.view = view or View()
        self.described: dict[str, str] | None = None

    def __bool__(self) -> bool:
        return self.weights is not None

    def of(self, network: nn.Module) -> nn.Module:
        """Who answers prompts without a name in the place of ``network``, on its device.

        A network that knows no names is a SAM already, and answers itself.

        Raises:
            ValueError: missing weights, or those of another architecture.
        """
        if not self or not network.labels:
            return network
        device = network.label_features.device
        if self.described is None:
            try:
                self._load(device)
            except ValueError as problem:
                raise ValueError(
                    f"{problem}. These weights answer prompts without a name: give {self.option}, a SAM of this form, "
                    "or null for others to answer"
                ) from problem
            self.described = describe_weights(self.weights.path)
        return self._network.to(device).eval()

    def _load(self, device: torch.device) -> None:
        self.weights.load_base(self._network)


class BoxNetwork(PromptNetwork):
    """LiteMedSAM, which was trained for boxes, in the form that is fastest on the processor at hand.

    Args:
        path: of its weights; ``lite_medsam`` for those in the user's cache; None for others to answer.

    Attributes:
        missing: what to say where those in the cache were asked for and nobody brought them; None otherwise.
    """

    option = "box_path"

    def __init__(self, path: str | Path | None = LITE_MEDSAM) -> None:
        here = found() if path == LITE_MEDSAM else path
        super().__init__(nn.Module(), here, View("medsam", SIZE))
        self.missing = None
        if path and not here:
            self.missing = f"boxes were not answered by LiteMedSAM, which is better at them: {COMMAND} brings it"

    def _load(self, device: torch.device) -> None:
        self._network = lite_medsam()
        self.weights.load_base(self._network)
        warn_of_others(self.weights.path)
        if device.type == "cpu":
            dtype = torch.bfloat16 if computes_bfloat16(device) else torch.float32
            self._network.image_encoder = FoldedTinyViT(self._network.image_encoder, dtype)
