# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Real servers, each a process of its own as people start it, and volumes with a ball to click on."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

ROOT = Path(__file__).parents[3]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(*options: str, **environment: str) -> Iterator[str]:
    """The address of a server that runs with ``options``; it has to live to the end."""
    port = free_port()
    command = [sys.executable, "-m", "tools.interactive_server", "--port", str(port), *options]
    variables = {k: v for k, v in os.environ.items() if k != "NN_INTERACTIVE_API_KEY"}
    variables |= {"OMP_NUM_THREADS": "1", **environment}
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        for _ in range(600):
            try:
                httpx.get(f"{address}/healthz", timeout=1)
                break
            except httpx.HTTPError:
                assert process.poll() is None, process.stdout.read().decode()
                time.sleep(0.1)
        yield address
        assert process.poll() is None, "the server died"
    finally:
        process.terminate()
        said = process.communicate(timeout=30)[0].decode()
    assert "Traceback" not in said, said


def ball(
    shape: tuple[int, ...], center: tuple[int, ...], radius: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A noisy volume, int16, with a bright ball in it, and the ball."""
    distances = np.indices(shape) - np.reshape(center, (3, 1, 1, 1))
    truth = (distances**2).sum(axis=0) < radius**2
    image = np.random.default_rng(seed).normal(0, 20, shape) + 300 * truth
    return image.astype(np.int16), truth


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    mask, truth = mask > 0, truth > 0
    return 2 * (mask & truth).sum() / max(mask.sum() + truth.sum(), 1)


def claim(address: str, **headers: str) -> httpx.Client:
    """A client of the bare protocol that holds a place."""
    client = httpx.Client(base_url=address, headers=headers, timeout=60)
    answer = client.post("/claim")
    assert answer.status_code == 200, answer.text
    client.headers["X-Lease-Token"] = answer.json()["lease_token"]
    return client


def meta(**values) -> dict[str, str]:
    return {"X-Meta": json.dumps(values)}
