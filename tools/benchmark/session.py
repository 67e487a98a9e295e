# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A session's clicks, in Python and over the wire: the same image and clicks, in turns.

::

    python -m tools.benchmark session --rounds 7 --json session.json

The wire is ``nninteractive-client`` to ``python -m tools.interactive_server``, a process of its own on this computer
with as many threads. The first click comes when the image is prepared, as it is while a person looks for the place.
Further ones are where the mask is wrong. ``--beside 1`` keeps a core busy, as a viewer may.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.clicks import error_click
from sam_bundles import Session
from tools.benchmark import machine

SIZES = {"512 x 512 x 200": (512, 512, 200), "128^3": (128, 128, 128), "hippocampus": (35, 51, 35)}
SPACING = {"512 x 512 x 200": (0.8, 0.8, 2.0)}
TINY = {"tiny": (24, 28, 32)}
STEPS = ("image", "first click", "further click")
FURTHER = 5
SECONDS_TO_START = 300
# A voxel, and whether the object is there.
Place = tuple[tuple[int, ...], bool]


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark session", description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", help="where the numbers go")
    parser.add_argument("--rounds", type=int, default=7, help="images of each size, each clicked by both")
    parser.add_argument("--quick", action="store_true", help="a tiny size: whether it runs, not how fast")
    parser.add_argument("--beside", type=int, default=0, metavar="N", help="busy processes on the same computer (0)")
    options = parser.parse_args(arguments)
    found = machine.describe(torch.device("cpu"))
    with busy(options.beside), serving() as address:
        rows = [
            measured(name, shape, address, options.rounds) for name, shape in (TINY if options.quick else SIZES).items()
        ]
    print(", ".join(f"{key} {value}" for key, value in found.items()))
    print(table(rows))
    if options.json:
        command = f"python -m tools.benchmark session {' '.join(arguments)}"
        result = {"command": command, "machine": found, "rows": rows}
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n")
    return 0


def measured(name: str, shape: tuple[int, ...], address: str, rounds: int) -> dict[str, Any]:
    """Seconds of each step, in Python and over the wire; medians, with the lowest and the highest."""
    from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession

    spacing = SPACING.get(name, (1.0, 1.0, 1.0))
    seconds: dict[str, dict[str, list[float]]] = {way: {step: [] for step in STEPS} for way in ("Python", "wire")}
    session = Session()
    with nnInteractiveRemoteInferenceSession(address) as client:
        # The first one warms up, unmeasured.
        for turn in range(-1, rounds):
            image, target, first = scene(shape, turn + 1)
            clicks, masks = [first], []
            for way, one, properties in (
                ("Python", session, {"spacing": spacing, "orientation": "SPL"}),
                ("wire", client, {"spacing": spacing}),
            ):
                mask = np.zeros(shape, np.uint8)
                times = [timed(lambda: (one.set_image(image[None], properties), one.set_target_buffer(mask)))]  # noqa: B023
                if one is session:
                    preparing = timed(session.prepare)
                else:
                    # The server prepares by itself, which takes about as long.
                    time.sleep(0.5 + 1.5 * preparing)
                for number in range(1 + FURTHER):
                    if number == len(clicks):
                        clicks.append(correction(mask > 0, target, turn + number))
                    times.append(timed(lambda: one.add_point_interaction(*clicks[number])))  # noqa: B023
                masks.append(mask)
                if turn >= 0:
                    for step, values in zip(STEPS, (times[:1], times[1:2], times[2:]), strict=True):
                        seconds[way][step] += values
            if not np.array_equal(*masks):
                raise ValueError(f"{name}: Python and the wire gave different masks")
    row: dict[str, Any] = {"name": name, "voxels": int(np.prod(shape))}
    for step in STEPS:
        for way in seconds:
            values = seconds[way][step]
            row[f"{step}, {way}"] = [float(f(values)) for f in (np.median, np.min, np.max)]
        row[f"{step}, ratio"] = row[f"{step}, wire"][0] / row[f"{step}, Python"][0]
    return row


def scene(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray, Place]:
    """An int16 volume with a bright ellipsoid, its mask, and a click in its middle."""
    rng = np.random.default_rng(seed)
    center, radii = np.array(shape) // 2, np.array(shape) / 6
    image = rng.integers(-60, 60, shape, dtype=np.int16)
    ranges = [((np.arange(n) - c) / r) ** 2 for n, c, r in zip(shape, center, radii, strict=True)]
    target = (ranges[0][:, None, None] + ranges[1][None, :, None] + ranges[2]) < 1
    image[target] += 200
    return image, target, (tuple(int(c) for c in center), True)


def correction(mask: np.ndarray, target: np.ndarray, seed: int) -> Place:
    """A click where the mask is wrong, or in the middle of the ellipsoid where it is right."""
    rng = np.random.default_rng(seed)
    click = error_click(mask, target, "distance", rng) or error_click(~target, target, "distance", rng)
    return click.voxel, bool(click.label)


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Processes beside this one that do nothing but keep a core each busy."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def timed(run: Callable[[], Any]) -> float:
    """Seconds that ``run`` takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@contextmanager
def serving() -> Iterator[str]:
    """The address of a server of its own, with as many threads as this process has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tools.interactive_server", "--port", str(port)]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "NN_INTERACTIVE_API_KEY": ""}
    environment = {k: v for k, v in (os.environ | threads).items() if v}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        start = time.monotonic()
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() - start > SECONDS_TO_START:
                raise ValueError("the server did not start: see what python -m tools.interactive_server says")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def table(rows: list[dict[str, Any]]) -> str:
    """Medians in seconds as a table of Markdown, the lowest and highest in brackets."""
    lines = ["| image | step | Python | wire | ratio |", "|---|---|---|---|---|"]
    for row in rows:
        for step in STEPS:
            cells = ["{:.3f} ({:.3f}-{:.3f})".format(*row[f"{step}, {way}"]) for way in ("Python", "wire")]
            lines.append(f"| {row['name']} | {step} | {' | '.join(cells)} | {row[f'{step}, ratio']:.2f} |")
    return "\n".join(lines)
