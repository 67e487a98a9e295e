# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Fixtures for all tests: bundles run in-process or as a command, and weights that need no training."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
import torch
from stand_in import ThresholdNetwork
from workflows import random_network, run_configs, scripts_of

ROOT = Path(__file__).resolve().parent.parent
FASTSAM3D = ROOT / "bundles" / "fastsam3d"
# So that "pytest" finds the project as "python -m pytest" does.
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Sums in the same order on every machine, and no fight over few cores."""
    torch.set_num_threads(1)


@pytest.fixture
def fastsam3d_path():
    """The bundle's folder, whose ``scripts`` are importable."""
    with scripts_of(FASTSAM3D):
        yield FASTSAM3D


@pytest.fixture
def threshold_network() -> ThresholdNetwork:
    """The stand-in network; its class is in stand_in.py."""
    return ThresholdNetwork()


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory) -> Path:
    """A state dict of the configuration's network_def with seeded random weights."""
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    torch.save(random_network(FASTSAM3D).state_dict(), path)
    return path


@pytest.fixture
def run_workflow(fastsam3d_path, tmp_path, threshold_network):
    """The bundle's inference.json run in this process: ``run_workflow(image=..., foreground=...) -> output folder``.

    Without ``ckpt_path`` the stand-in network takes the place of ``network_def``, in cubes of 32 voxels.
    """
    count = 0

    def run(**overrides: Any) -> Path:
        nonlocal count
        count += 1
        settings = {"output_dir": str(tmp_path / f"out{count}"), "preview": False, "cube_size": 32, "device": "cpu"}
        settings["inferer#progress"] = False
        if "ckpt_path" not in overrides:
            weights = tmp_path / "stand_in.pt"
            torch.save(threshold_network.state_dict(), weights)
            settings |= {"network_def": threshold_network, "ckpt_path": str(weights)}
        settings |= overrides
        run_configs(FASTSAM3D, ["inference.json"], **settings)
        return Path(settings["output_dir"])

    return run


@pytest.fixture
def run_bundle(run_workflow):
    """Like ``run_workflow`` for one image with a NIfTI result: ``-> (mask, summary)``."""

    def run(**overrides: Any) -> tuple[nib.Nifti1Image, dict]:
        folder = run_workflow(**overrides)
        (summary,) = folder.rglob("*.json")
        (mask,) = folder.rglob("*_seg.nii*")
        return nib.load(mask), json.loads(summary.read_text())

    return run


@pytest.fixture
def run_command():
    """``python -m monai.bundle run`` as users call it: ``run_command(cwd, **options) -> CompletedProcess``."""

    def run(cwd: Path, **options: Any) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "monai.bundle", "run"]
        for key, value in options.items():
            command += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test ``bundle`` where it runs a whole configuration, and ``unit`` otherwise."""
    runs = {"run_workflow", "run_bundle", "run_command"}
    for item in items:
        whole = runs & set(getattr(item, "fixturenames", ())) or hasattr(getattr(item, "module", None), "run_configs")
        item.add_marker("bundle" if whole else "unit")
