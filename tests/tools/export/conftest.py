# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Small networks of both bundles, exported once for all tests."""

import subprocess
import sys
from pathlib import Path

import pytest
from small_exports import IMAGE, VOLUME, forget, make

from tools.export.__main__ import main


@pytest.fixture(scope="session")
def exported_volume(tmp_path_factory):
    """``(network, folder)`` of fastsam3d in its published form."""
    folder = tmp_path_factory.mktemp("volume")
    network, words = make("fastsam3d", folder, ["inference.json", "published.json"], VOLUME)
    assert main(words) == 0
    forget("fastsam3d")
    return network, folder / "export"


@pytest.fixture(scope="session")
def exported_image(tmp_path_factory):
    """``(network, folder)`` of ssam_2d."""
    folder = tmp_path_factory.mktemp("image")
    network, words = make("ssam_2d", folder, ["inference.json"], IMAGE)
    assert main(words) == 0
    forget("ssam_2d")
    return network, folder / "export"


@pytest.fixture
def run_alone():
    """segment.py of an export, in a Python that has no torch, no MONAI and nothing of this project."""

    def run(folder: Path, *words) -> subprocess.CompletedProcess:
        banned = (
            "import sys; [sys.modules.__setitem__(n, None) for n in ('torch', 'monai', 'common', 'tools', 'bundles')]"
        )
        start = f"{banned}; sys.argv = sys.argv[1:]; import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
        command = [sys.executable, "-c", start, str(folder / "segment.py"), *map(str, words)]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)

    return run
