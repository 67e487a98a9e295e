# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""MONAI Label writes some ids of inference.json itself, and resolves others one by one and without an image."""

import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["fastsam3d", "ssam_2d"])
def test_what_monai_label_reads_needs_no_image(name):
    bundle = ROOT / "bundles" / name
    sys.path.insert(1, str(bundle))
    try:
        parser = ConfigParser()
        parser.read_config(str(bundle / "configs" / "inference.json"))
        parser.config.update({"bundle_root": str(bundle), "use_click": False, "device": "cpu"})
        for key in ("network_def", "preprocessing", "inferer", "postprocessing"):
            assert parser.get_parsed_content(key) is not None
    finally:
        sys.path.remove(str(bundle))
        for module in [n for n in sys.modules if n == "scripts" or n.startswith("scripts.")]:
            del sys.modules[module]
