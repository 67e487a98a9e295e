# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Checks in a process of their own, in an empty folder, without this repository on the path."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from tools.check_bundle.samples import Sample

INSIDE = Path(__file__).with_name("inside.py")
LIMIT_S = 1200


def check_inside(python: str, bundle: Path, check: str, cwd: Path, overrides: dict[str, Any]) -> str:
    """One function of inside.py.

    Raises:
        ValueError: with what it said.
    """
    command = [python, "-c", INSIDE.read_text(), str(bundle), check, json.dumps(overrides)]
    done = _run(command, cwd, {"PYTHONPATH": str(bundle)})
    said = [line.removeprefix("said: ") for line in done.stdout.splitlines() if line.startswith("said: ")]
    if done.returncode or not said:
        raise ValueError(said[-1] if said else done.stderr.strip()[-400:])
    return said[-1]


def check_inference(python: str, bundle: Path, sample: Sample, cwd: Path, output: Path) -> str:
    """``python -m monai.bundle run`` in ``cwd``, with paths as one would type them there; a mask on the image's grid.

    Raises:
        ValueError: the run failed, or the mask is not there or on another grid.
    """
    root = "." if cwd == bundle else str(bundle)
    config = os.path.join(root, "configs", "inference.json").removeprefix("./")
    command = [python, "-m", "monai.bundle", "run", "--bundle_root", root, "--config_file", config]
    for key, value in {**sample.inference(), "output_dir": str(output), "device": "cpu"}.items():
        command += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    done = _run(command, cwd, {})
    if done.returncode:
        reasons = [
            line for line in done.stderr.splitlines() if line.startswith(("ValueError: ", "ModuleNotFoundError: "))
        ]
        raise ValueError(reasons[-1] if reasons else done.stderr.strip()[-400:])
    masks = [f for f in sorted(output.rglob("image_*")) if f.suffix in (".gz", ".png") and "overlay" not in f.name]
    return _compare_grids(sample.image, [f for f in masks if f.name.endswith(sample.image.name.partition(".")[2])])


def _compare_grids(image: Path, masks: list[Path]) -> str:
    if not masks:
        raise ValueError("the run ended well, but wrote no mask")
    if image.name.endswith(".nii.gz"):
        found, given = nib.load(masks[0]), nib.load(image)
        same = found.shape == given.shape and np.allclose(found.affine, given.affine, atol=1e-4)
        count = int(np.count_nonzero(found.dataobj))
    else:
        found, given = Image.open(masks[0]), Image.open(image)
        same, count = found.size == given.size, int(np.count_nonzero(np.asarray(found)))
    if not same:
        raise ValueError(f"{masks[0].name} is not on the image's grid")
    return f"{masks[0].name} on the image's grid, {count} voxels"


def fresh_python(folder: Path, requirements: list[str]) -> str:
    """The interpreter of a new virtual environment in ``folder`` that holds these packages and no others.

    Raises:
        ValueError: pip could not install them.
    """
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    done = _run([python, "-m", "pip", "install", "--quiet", *requirements], folder, {})
    if done.returncode:
        raise ValueError(f"pip could not install {' '.join(requirements)}: {done.stderr.strip()[-400:]}")
    return python


def _run(command: list[str], cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    return subprocess.run(
        command, cwd=cwd, env=inherited | environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
