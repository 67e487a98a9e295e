# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The machine: what it is, and how fast it multiplies matrices."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from tools.benchmark.timing import Contestant

# The first product of the paper's MLP: 512 tokens, 768 channels, 3072 hidden ones.
ROWS, INNER, COLUMNS, REPEATS = 512, 768, 3072, 4
# A GPU needs more rows to show what it can do.
GPU_ROWS = 8192


def describe(device: torch.device) -> dict[str, Any]:
    """What a reader needs to place the numbers."""
    found = {
        "cpu": _cpu_name(),
        "logical_cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "device": str(device),
        "load_before": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }
    if device.type == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return found


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        values = dict(tuple(part.strip() for part in line.split(":", 1)) for line in lines if ":" in line)
        return f"{values['model name']} (family {values['cpu family']}, model {values['model']})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def gemm_contestants(device: torch.device) -> list[Contestant]:
    """Matrix products as ``torch.nn.functional.linear`` computes them, measured among the contestants."""
    contestants = []
    rows = GPU_ROWS if device.type == "cuda" else ROWS
    for dtype in (torch.float32, torch.bfloat16):
        x, weight = torch.randn(rows, INNER, device=device), torch.randn(COLUMNS, INNER, device=device)
        contestants.append(
            Contestant(f"gemm {dtype}", _product(x.to(dtype), weight.to(dtype)), 2.0 * REPEATS * rows * INNER * COLUMNS)
        )
    return contestants


def _product(x: torch.Tensor, weight: torch.Tensor):
    def run() -> None:
        for _ in range(REPEATS):
            F.linear(x, weight)

    return run
