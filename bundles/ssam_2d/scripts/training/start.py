# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The network that the training of a base starts with."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..checkpoints import load_start


def started(network: nn.Module, path: str | Path | None, device: torch.device) -> nn.Module:
    """The network on its device, with a checkpoint's weights where one is given. Raises ValueError as load_start()."""
    if path is not None:
        load_start(network, path)
    return network.to(device)
