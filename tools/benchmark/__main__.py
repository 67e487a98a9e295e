# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""``python -m tools.benchmark NAME --json OUT``: time this project's networks against the published ones."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from tools.benchmark import (
    attention,
    bundle,
    classical,
    click,
    encoder3d,
    machine,
    peak,
    peers,
    precision,
    prompts_2d,
    requests,
    ssam,
    timing,
    tiny_vit,
)

BENCHMARKS = {
    "encoder3d": encoder3d,
    "click": click,
    "attention": attention,
    "bundle": bundle,
    "requests": requests,
    "precision": precision,
    "ssam": ssam,
    "tiny_vit": tiny_vit,
    "peers": peers,
}
# On a machine that is busy with other work too, the processor's time for one thread says more than a clock's.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Masks are compared there, not times.
    if arguments[:1] == ["classical"]:
        return classical.main(arguments[1:])
    if arguments[:1] == ["prompts_2d"]:
        return prompts_2d.main(arguments[1:])
    # A server is started there, and asked.
    if arguments[:1] == ["session"]:
        from tools.benchmark import session

        return session.main(arguments[1:])
    # Processes are started there, and wait for jobs.
    if arguments[:1] == ["batch"]:
        from tools.benchmark import batch

        return batch.main(arguments[1:])
    options = _parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    benchmark = BENCHMARKS[options.name]
    torch.manual_seed(0)
    # The machine is described first: how busy it was before this run began.
    found = machine.describe(device) | {"clock": options.clock}
    with torch.inference_mode():
        gemm = machine.gemm_contestants(device)
        contestants = benchmark.contestants(device, options.quick)
        if options.only:
            contestants = [c for c in contestants if c.name in options.only]
        rounds = 2 if options.quick else options.rounds
        clock = CLOCKS[options.clock]
        seconds, failures = timing.measure([*gemm, *contestants], rounds, device, not options.no_progress, clock)
    rates = {c.name.removeprefix("gemm torch."): c.flops / float(np.median(seconds[c.name])) for c in gemm}
    found["gemm_gflop_per_s"] = {dtype: rate / 1e9 for dtype, rate in rates.items()}
    rows = [timing.row(c, seconds[c.name], rates) for c in contestants if c.name in seconds]
    if getattr(benchmark, "PEAKS", False):
        for row in tqdm(rows, desc="memory", disable=options.no_progress, leave=False):
            row |= peak.measured(options.name, row["name"], torch.get_num_threads(), options.quick)
    print(f"{options.name}: {benchmark.about(options.quick)}")
    print(", ".join(f"{key} {value}" for key, value in found.items() if key != "gemm_gflop_per_s"))
    print("GEMM, in this run: " + ", ".join(f"{d} {r / 1e9:.0f} GFLOP/s" for d, r in rates.items()))
    print(timing.table(rows, benchmark.AGAINST))
    for name, reason in failures.items():
        print(f"{name}: not measured, {reason}")
    if options.json:
        command = f"python -m tools.benchmark {' '.join(arguments)}"
        result = {"command": command, "machine": found, "rows": rows, "not_measured": failures}
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    names = "; ".join(f"{name}: {module.about(False)}" for name, module in BENCHMARKS.items())
    names += (
        "; classical, prompts_2d, session and batch: their own options, see python -m tools.benchmark classical --help"
    )
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark", description=f"{__doc__} {names}")
    parser.add_argument("name", choices=BENCHMARKS, help="what to measure")
    parser.add_argument("--json", help="where the numbers go")
    parser.add_argument("--threads", type=int, help="of torch on the CPU; its own choice by default")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: the processor's time for this process")
    parser.add_argument("--device", default="cpu", help="cpu by default")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contestant; the slow ones take fewer")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="these rows alone")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it runs, not how fast")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    return parser


if __name__ == "__main__":
    sys.exit(main())
