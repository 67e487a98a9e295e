# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Contestants measured in turns, so that a slow moment of the machine slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

# A contestant that needs longer than its share of this runs in fewer rounds, spread over all of them.
SECONDS_EACH = 12.0


@dataclass
class Contestant:
    """Something to be timed.

    Attributes:
        name: of its row.
        run: computes it once.
        flops: floating point operations of one run, in matrix products and convolutions; None where not counted.
        dtype: whose matrix products its rate is compared with; None for no comparison.
        note: what a reader has to know about it.
        extra: further columns of its row in the JSON.
    """

    name: str
    run: Callable[[], Any]
    flops: float | None = None
    dtype: torch.dtype | None = None
    note: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def measure(
    contestants: Sequence[Contestant],
    rounds: int,
    device: torch.device,
    progress: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Seconds of every run, and why a contestant could not run, both by name.

    Each contestant runs twice unmeasured (once where that takes seconds), then all take turns.

    Args:
        contestants: with names of their own.
        rounds: turns of the fast ones; one that needs seconds takes 3, one that needs many takes 2.
        device: waited for before and after each run.
        progress: show a bar.
        clock: in seconds. ``time.process_time`` counts what the processor did for this process (in all its threads),
            whoever else keeps it busy.
    """
    turns, failures = {}, {}
    with tqdm(total=2 * len(contestants), desc="warming up", disable=not progress, leave=False) as bar:
        for contestant in contestants:
            bar.set_postfix_str(contestant.name)
            try:
                seconds = min(timed(contestant.run, device, clock) for _ in _until_warm(contestant, device))
            except (RuntimeError, ValueError, ImportError, MemoryError) as error:
                failures[contestant.name] = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
            else:
                least = 2 if seconds > SECONDS_EACH / 2 else 3
                turns[contestant.name] = max(min(least, rounds), min(rounds, int(SECONDS_EACH / seconds)))
            bar.update(2)
    seconds = {name: [] for name in turns}
    running = [c for c in contestants if c.name in turns]
    with tqdm(total=sum(turns.values()), desc="measuring", disable=not progress, leave=False) as bar:
        for turn in range(rounds):
            for contestant in running:
                share = turns[contestant.name] / rounds
                if int((turn + 1) * share + 1e-9) > int(turn * share + 1e-9):
                    bar.set_postfix_str(contestant.name)
                    seconds[contestant.name].append(timed(contestant.run, device, clock))
                    bar.update()
    return seconds, failures


def _until_warm(contestant: Contestant, device: torch.device) -> range:
    """One run out of the count, and how many more are wanted before the slower ones are told from the faster ones."""
    return range(1 if timed(contestant.run, device) > 1 else 2)


def timed(run: Callable[[], Any], device: torch.device, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one run, everything that it started on the device included."""
    _wait(device)
    start = clock()
    run()
    _wait(device)
    return clock() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def row(contestant: Contestant, seconds: Sequence[float], rates: dict[str, float]) -> dict[str, Any]:
    """A contestant's numbers.

    Args:
        contestant: what was measured.
        seconds: of each run.
        rates: operations a second of the machine's matrix products, by the name of their dtype.
    """
    median, p10, p90 = (float(np.percentile(seconds, p)) for p in (50, 10, 90))
    numbers = {"name": contestant.name, "median_s": median, "p10_s": p10, "p90_s": p90, "runs": len(seconds)}
    if contestant.flops:
        numbers |= {"gflop": contestant.flops / 1e9, "gflop_per_s": contestant.flops / median / 1e9}
    if contestant.dtype is not None:
        dtype = str(contestant.dtype).removeprefix("torch.")
        numbers["dtype"] = dtype
        if contestant.flops and dtype in rates:
            numbers["share_of_gemm"] = contestant.flops / median / rates[dtype]
    if contestant.note:
        numbers["note"] = contestant.note
    return numbers | contestant.extra


def table(rows: Sequence[dict[str, Any]], against: str) -> str:
    """The rows as text; the ratio says how many times the time of row ``against`` each one took."""
    base = next((r["median_s"] for r in rows if r["name"] == against), None)
    width = max((len(r["name"]) for r in rows), default=4)
    titles = f"{'median':>10} {'p10':>10} {'p90':>10} {'runs':>5} {'ratio':>8} {'GFLOP/s':>8} {'of GEMM':>8}"
    with_memory = any("peak_mb" in r for r in rows)
    lines = [f"{'':{width}}  {titles}" + (f" {'memory':>9}" if with_memory else "")]
    for r in rows:
        times = " ".join(f"{1000 * r[key]:7.2f} ms" for key in ("median_s", "p10_s", "p90_s"))
        ratio = f"{r['median_s'] / base:8.2f}" if base else f"{'':8}"
        rate = f"{r['gflop_per_s']:8.0f}" if "gflop_per_s" in r else f"{'':8}"
        share = f"{r['share_of_gemm']:8.0%}" if "share_of_gemm" in r else f"{'':8}"
        memory = f" {r['peak_mb']:6.0f} MB" if "peak_mb" in r else ""
        told = f"{r['name']:{width}}  {times} {r['runs']:5d} {ratio} {rate} {share}{memory}  {r.get('note', '')}"
        lines.append(told.rstrip())
    return "\n".join(lines)
