# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.
"""Threads that wait let others work, in whatever way the project is started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.waiting import SPINS, VARIABLE, wait_briefly

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, SPINS), ({VARIABLE: "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_what_the_user_says_stands(given, expected):
    environment = dict(given)
    wait_briefly(environment)
    assert environment.get(VARIABLE) == expected


@pytest.mark.parametrize("module", ["sam_bundles", "tools.interactive_server", "tools.benchmark", "tools.batch"])
def test_it_is_set_before_torch_is_loaded(module):
    code = (
        "import os, sys, importlib\n"
        "class Watch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch': print('loaded with', os.environ.get('GOMP_SPINCOUNT'))\n"
        "sys.meta_path.insert(0, Watch())\n"
        f"importlib.import_module({module!r})\n"
        "import torch\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in (VARIABLE, "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"loaded with {SPINS}"
