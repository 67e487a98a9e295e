# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Volumes with bright blocks on grids of every kind, and requests that are no masks."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import nibabel as nib
import numpy as np

AFFINES = {
    "RAS": np.diag([1.0, 1.0, 1.0, 1.0]),
    "LPS": np.diag([-1.0, -1.0, 1.0, 1.0]) + [[0, 0, 0, 40], [0, 0, 0, 50], [0, 0, 0, -7], [0, 0, 0, 0]],
    "thick": np.diag([-0.8, 0.8, 3.0, 1.0]),
    "swapped": np.array([[0, 0, 1.2, 5.0], [-1, 0, 0, 30], [0, -1.1, 0, 20], [0, 0, 0, 1]]),
}
angle = np.deg2rad(20)
AFFINES["oblique"] = np.array(
    [
        [np.cos(angle), -np.sin(angle), 0, -12.3],
        [np.sin(angle), np.cos(angle), 0, 4.5],
        [0, 0, 1.5, 100],
        [0, 0, 0, 1],
    ]
)


def write_blocks(path: Path, affine: np.ndarray, blocks: list[tuple[slice, ...]], shape=(48, 40, 36)) -> np.ndarray:
    """A volume with bright blocks; returns their label map, 1, 2, ... in their order."""
    labels = np.zeros(shape, dtype=np.uint8)
    for value, block in enumerate(blocks, start=1):
        labels[block] = value
    noise = np.random.default_rng(0).normal(0, 5, shape)
    nib.save(nib.Nifti1Image((np.where(labels > 0, 1000, 0) + noise).astype(np.float32), affine), path)
    return labels


def seen(server, *images: str) -> None:
    """Wait until the server knows the images that were put into its folder."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with urllib.request.urlopen(server.address + "/datastore/?output=all", timeout=60) as response:
            if set(images) <= set(json.loads(response.read())["objects"]):
                return
        time.sleep(0.2)
    raise AssertionError(f"the server does not see {images}")


def post(server, path: str, params: str | None = None) -> tuple[int, dict]:
    """Status and JSON of a request, ``params`` as the form's text whatever it is."""
    data = urllib.parse.urlencode({} if params is None else {"params": params}).encode()
    try:
        with urllib.request.urlopen(server.address + path, data, timeout=300) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
