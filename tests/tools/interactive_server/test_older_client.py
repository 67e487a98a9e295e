# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The client's older releases, each in an environment of its own, since two do not fit into one."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("drive_client.py")


def test_every_call_of_the_client_that_is_installed(server):
    said = subprocess.run([sys.executable, str(DRIVER), server], capture_output=True, text=True)
    assert said.returncode == 0 and said.stdout.startswith("2."), said.stderr


@pytest.mark.slow
@pytest.mark.parametrize("release", ["2.5.1", "2.6.0"])
def test_every_call_of_a_release(server, release, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = next(p for p in ("bin/python", "Scripts/python.exe") if (tmp_path / "env" / p).exists())
    python = str(tmp_path / "env" / python)
    installed = subprocess.run([python, "-m", "pip", "install", "-q", f"nninteractive-client=={release}"])
    if installed.returncode:
        pytest.skip(f"nninteractive-client {release} cannot be had")
    said = subprocess.run([python, str(DRIVER), server], capture_output=True, text=True)
    assert said.stdout.strip() == release, said.stderr
