# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Half precision on processors that compute in it, CPU or GPU."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn

from .flags import flag


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 itself: AVX512-BF16 or AMX on a CPU, Ampere or newer on CUDA."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Told to do without AVX-512 (ATEN_CPU_CAPABILITY=avx2), torch is as on a processor that has none.
    if device.type != "cpu" or torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2"):
        return False
    # torch has no public question for this; where it has none at all the answer is no.
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in questions)


class MixedPrecision(Inferer):
    """Another inferer under torch.autocast to bfloat16: products in bfloat16, weights and what comes out in float32.

    MONAI's own ``amp`` of trainers knows CUDA and float16 alone; bfloat16 needs no scaling of gradients.

    Args:
        inferer: what is called.
        amp: ``auto`` takes bfloat16 where the device computes in it, true anyhow (emulated it is slow), false never.

    Raises:
        ValueError: another ``amp``.
    """

    def __init__(self, inferer: Inferer, amp: bool | str = "auto") -> None:
        super().__init__()
        self.inferer = inferer
        self.amp = amp if amp == "auto" else flag("amp", amp)

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """The inferer's answer, in float32."""
        device = inputs.device
        half = computes_bfloat16(device) if self.amp == "auto" else self.amp
        # Not cached: a copy of a weight made without gradients, for a first round, must not serve the next one.
        with torch.autocast(device.type, torch.bfloat16, enabled=half, cache_enabled=False):
            answer = self.inferer(inputs, network, *args, **kwargs)
        return _in_float32(answer) if half else answer


def _in_float32(answer: Any) -> Any:
    if isinstance(answer, Tensor):
        return answer.float() if answer.is_floating_point() else answer
    if isinstance(answer, dict):
        return {key: _in_float32(value) for key, value in answer.items()}
    if isinstance(answer, tuple):
        values = [_in_float32(value) for value in answer]
        return type(answer)(*values) if hasattr(answer, "_fields") else tuple(values)
    return answer
