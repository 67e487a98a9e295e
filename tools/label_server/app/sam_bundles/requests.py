# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What is checked of a request before any work starts."""

from __future__ import annotations

from typing import Any

import torch
from monailabel.utils.others.generic import device_list, device_map


def check_device(device: Any) -> None:
    """Raise a ValueError for a device that is not there: MONAI Label fails in other words, or takes the CPU instead.

    Args:
        device: as in a request, one of the names that the server offers; or the whole list of them, or nothing.
    """
    asked = device[0] if isinstance(device, list) and device else device
    if not asked:
        return
    try:
        torch.zeros(1, device=device_map().get(asked, asked))
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ValueError(f"device {asked!r} is not there: expected one of {', '.join(device_list())}") from error
