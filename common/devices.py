# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The device to compute on."""

from __future__ import annotations

import torch


def checked_device(device: str | torch.device = "auto") -> torch.device:
    """The device named, or for ``auto`` the first CUDA device, else the CPU.

    Raises:
        ValueError: a name that torch does not know, or a device that is not there.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ValueError(
            f"device {str(device)!r}: {str(error).splitlines()[0][:160]}; expected auto or one of {there}"
        ) from error
    return chosen
