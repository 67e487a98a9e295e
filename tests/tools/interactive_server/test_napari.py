# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""napari with its extension: opens a volume, clicks, sees the layer change. Without a screen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("napari_clicks.py")
# Of an environment with napari, PyQt6 and napari-nninteractive, which do not fit beside everything else.
PYTHON = os.environ.get("NAPARI_PYTHON", sys.executable)


def test_a_click_in_napari_changes_its_layer(server):
    if subprocess.run([PYTHON, "-c", "import napari, napari_nninteractive"], capture_output=True).returncode:
        pytest.skip("needs napari and napari-nninteractive: NAPARI_PYTHON names the Python of an environment with them")
    variables = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run([PYTHON, str(DRIVER), server], env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    after, undone = (line.split(": ")[1] for line in done.stdout.splitlines() if line.startswith("voxels "))
    assert 5000 < int(after) < 9000 and undone == "0"
