# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Batches: images a second with 1 and 2 workers of each engine, and what the engine costs an image.

::

    python -m tools.benchmark batch --images 60 --json batch.json

Every worker has one thread. A rate counts from the first result to the last, when all workers are loaded. What the
engine costs is the time of an image with one worker less the time that the worker itself took for it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from tools.batch.configuration import Configurations
from tools.batch.fingerprint import Fingerprints
from tools.batch.jobs import Job, check_jobs
from tools.batch.processes import Processes
from tools.batch.run import Run, locked
from tools.batch.worker import Setup, Worker
from tools.benchmark import machine
from tools.benchmark.session import scene

SHAPE, TINY = (64, 64, 48), (24, 28, 32)
WORKERS = (1, 2)
WITHOUT = "no engine"


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark batch", description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", help="where the numbers go")
    parser.add_argument("--images", type=int, default=60, help="volumes, each with one click (60)")
    parser.add_argument("--quick", action="store_true", help="three tiny ones, no Ray: whether it runs, not how fast")
    options = parser.parse_args(arguments)
    found = machine.describe(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        jobs = made(Path(folder), 3 if options.quick else options.images, TINY if options.quick else SHAPE)
        rows = [without_engine(jobs, Path(folder))]
        for engine in ("processes", *(("ray",) if find_spec("ray") and not options.quick else ())):
            rows += [with_engine(jobs, Path(folder), engine, workers) for workers in WORKERS]
    print(", ".join(f"{key} {value}" for key, value in found.items()))
    print(table(rows))
    if options.json:
        command = f"python -m tools.benchmark batch {' '.join(arguments)}"
        Path(options.json).write_text(json.dumps({"command": command, "machine": found, "rows": rows}, indent=2) + "\n")
    return 0


def made(folder: Path, count: int, shape: tuple[int, ...]) -> list[Job]:
    """Volumes on the disk, and a click in the middle of each."""
    jobs = []
    bundle = str(Configurations("fastsam3d", {})().root)
    for i in range(count):
        image, _, (middle, _) = scene(shape, i)
        nib.save(nib.Nifti1Image(image, np.diag([1.5, 1.5, 1.5, 1])), folder / f"image{i}.nii.gz")
        request = {"foreground": [list(middle)]}
        jobs.append(Job(f"image{i}", str(folder / f"image{i}.nii.gz"), bundle, request))
    return jobs


def without_engine(jobs: list[Job], folder: Path) -> dict[str, Any]:
    """One after the other in this process."""
    threads = torch.get_num_threads()
    worker = Worker(Setup(jobs[0].bundle, {}, str(folder / "here"), 1), "here")
    try:
        ends = [(worker.do(job.plain(), ""), time.perf_counter()) for job in jobs]
    finally:
        torch.set_num_threads(threads)
    return row(WITHOUT, 1, ends)


def with_engine(jobs: list[Job], folder: Path, engine: str, workers: int) -> dict[str, Any]:
    """As the command does it, checks and tables included."""
    output = folder / f"{engine}{workers}"
    with locked(output):
        start = time.perf_counter()
        checked = check_jobs(jobs, output)
        run = Run(output, checked, Fingerprints(Configurations("fastsam3d", {})), progress=False)
        tasks = run.tasks()
        checks = time.perf_counter() - start
        setup = Setup(jobs[0].bundle, {}, str(output), 1)
        if engine == "ray":
            from tools.batch.ray_actors import RayActors

            crew: Any = RayActors(setup)
        else:
            crew = Processes(setup)
        ends = []
        run.rows = _Timed(run.rows, ends)
        start = time.perf_counter()
        run.finish(tasks, crew, workers)
        began = time.perf_counter() - start
        start = time.perf_counter()
        run.write()
        tables = time.perf_counter() - start
    return row(engine, workers, ends) | {"checks_ms": 1000 * checks / len(jobs), "tables_s": tables, "whole_s": began}


class _Timed(dict):
    """Rows, and when each came."""

    def __init__(self, rows: dict, ends: list) -> None:
        super().__init__(rows)
        self.ends = ends

    def __setitem__(self, name: str, row: dict) -> None:
        self.ends.append((row, time.perf_counter()))
        super().__setitem__(name, row)


def row(engine: str, workers: int, ends: list[tuple[dict, float]]) -> dict[str, Any]:
    """Images a second, and milliseconds an image that are not the worker's."""
    failed = [told["reason"] for told, _ in ends if told["status"] != "done"]
    if failed:
        raise ValueError(failed[0])
    times = [end for _, end in ends]
    rate = (len(times) - 1) / (times[-1] - times[0])
    own = float(np.mean([told["seconds"] for told, _ in ends[1:]]))
    cost = 1000 * (1 / rate - own) if workers == 1 else None
    return {"engine": engine, "workers": workers, "images_a_second": rate, "image_s": own, "engine_ms": cost}


def table(rows: list[dict[str, Any]]) -> str:
    """As Markdown."""
    titles = ("engine", "workers", "images a second", "s of an image in its worker", "ms that the engine adds")
    titles = (*titles, "ms of checks before", "s from start to end")
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for r in rows:
        cost = "" if r["engine_ms"] is None else f"{r['engine_ms']:.0f}"
        more = [f"{r[key]:.1f}" if key in r else "" for key in ("checks_ms", "whole_s")]
        first = f"| {r['engine']} | {r['workers']} | {r['images_a_second']:.2f} | {r['image_s']:.3f} | {cost} |"
        lines.append(f"{first} {' | '.join(more)} |")
    return "\n".join(lines)
