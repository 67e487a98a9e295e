# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Volumes that differ by noise, one job each, and what a run has kept of them."""

import json
from pathlib import Path

import numpy as np
from two_balls import GRID, PAIR, TRUTH
from volumes import write_nifti

CLICK = [int(v) for v in np.argwhere(TRUTH[0]).mean(0).round()]


def make_jobs(folder: Path, count: int) -> Path:
    """A table of jobs b0, b1, ..."""
    lines = []
    for i in range(count):
        image = PAIR.image(GRID) + np.random.default_rng(i).normal(0, 8, GRID.shape).astype(np.float32)
        write_nifti(folder / f"b{i}.nii.gz", image, GRID)
        lines.append(json.dumps({"image": f"b{i}.nii.gz", "objects": {"ball": [CLICK]}}))
    (folder / "jobs.jsonl").write_text("\n".join(lines))
    return folder / "jobs.jsonl"


def journal(output: Path) -> list[dict]:
    """Every row that is whole; a kill may have cut one off."""
    rows = []
    for file in output.glob("journal/*.jsonl"):
        for line in file.read_text().split("\n"):
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
    return rows


def masks(output: Path) -> dict[str, bytes]:
    """The files of all masks."""
    return {f.name: f.read_bytes() for f in output.glob("masks/*/*.nii.gz")}
