# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What a training leaves in its folder."""

from __future__ import annotations

from pathlib import Path

import torch
from ignite.engine import Engine, Events
from torch import nn

from ..checkpoints import PARTS
from ..common.files import whole_files


class BaseWriter:
    """Handler that writes SAM's three parts of the network after each epoch, as SAM's own checkpoints hold them.

    Args:
        path: of the state dict.
        network: see :class:`..networks.ssam.SSAM`.
    """

    def __init__(self, path: str | Path, network: nn.Module) -> None:
        self.path, self.network = Path(path), network

    def attach(self, engine: Engine) -> None:
        """Register for the end of each epoch."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        state = {k: v.detach().cpu() for k, v in self.network.state_dict().items() if k.startswith(PARTS)}
        with whole_files(self.path.parent) as side:
            torch.save(state, side / self.path.name)
