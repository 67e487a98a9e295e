# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The memory of one contestant, alone in a process of its own (Linux).

``python -m tools.benchmark.peak BENCHMARK ROW`` prints it as JSON. Resident memory is read when the libraries are
loaded; then the contestant is built and run once, the kernel's mark of the highest use is reset, and it runs twice
more. What factoring weights takes while building, once, is no part of it.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import json
import subprocess
import sys
from pathlib import Path

import torch

RESIDENT, HIGHEST = "VmRSS", "VmHWM"
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measured(benchmark: str, row: str, threads: int, quick: bool) -> dict[str, float]:
    """``peak_mb``, above what the libraries take, and ``process_mb``, of the whole process; empty without Linux.

    Raises:
        RuntimeError: the process failed; with its last line.
    """
    if not RESET.exists():
        return {}
    command = [sys.executable, "-m", "tools.benchmark.peak", benchmark, row, "--threads", str(threads)]
    done = subprocess.run([*command, *(["--quick"] if quick else [])], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{row}: its memory could not be measured: {(done.stderr.strip() or '?').splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def megabytes(field: str) -> float:
    """A field of the kernel's account of this process."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def give_back() -> None:
    """Freed memory to the system, where the C library can."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark.peak", description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", help="a module of tools.benchmark with Networks")
    parser.add_argument("row", help="of its contestants")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    module = importlib.import_module(f"tools.benchmark.{given.benchmark}")
    give_back()
    libraries = megabytes(RESIDENT)
    contestant = module.Networks(torch.device("cpu"), given.quick).contestant(given.row)
    contestant.run()
    give_back()
    RESET.write_text("5")
    for _ in range(2):
        contestant.run()
    highest = megabytes(HIGHEST)
    print(json.dumps({"peak_mb": round(highest - libraries, 1), "process_mb": round(highest, 1)}))


if __name__ == "__main__":
    main()
