# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The second part of the demo: its slices, its commands and what it tells."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from tools import demo
from tools.demo_names import HELD_OUT, TISSUES, TRAINING, run, write_slices
from tools.run_python import run_python


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    pytest.importorskip("nilearn")
    return write_slices(tmp_path_factory.mktemp("slices") / "data")


def test_no_slice_is_trained_on_and_kept_out():
    assert not set(TRAINING) & set(HELD_OUT)


def test_slices_of_the_template(slices):
    for part, numbers in (("training", TRAINING), ("held_out", HELD_OUT)):
        images, masks = (sorted((slices / part / kind).iterdir()) for kind in ("images", "masks"))
        assert [f.name for f in images] == [f.name for f in masks] and len(images) == len(numbers)
        assert json.loads((slices / part / "labels.json").read_text()) == {"1": TISSUES[0], "2": TISSUES[1]}
    picture, mask = (
        np.asarray(Image.open(slices / "held_out" / kind / "mni152_z097.png")) for kind in ("images", "masks")
    )
    assert picture.shape == mask.shape == (233, 197)
    # White matter is brighter than grey in a T1 image, and lies deeper.
    assert picture[mask == 2].mean() > picture[mask == 1].mean() + 20
    assert abs(np.argwhere(mask == 1)[:, 0] - 116).mean() > abs(np.argwhere(mask == 2)[:, 0] - 116).mean()


def test_three_commands_and_what_they_found(tmp_path):
    pytest.importorskip("nilearn")
    called = []

    def call(arguments):
        called.append(arguments)
        folder = tmp_path / arguments[arguments.index("--output_dir") + 1]
        folder.mkdir(parents=True)
        (folder / "adapter.safetensors").write_bytes(b"0" * 500_000)
        (folder / "mni152_z043_seg_overlay.png").touch()
        found = {name: {"dice": {"mean": 0.5}} for name in TISSUES}
        (folder / "metrics.json").write_text(json.dumps({"per_class": found}))

    told = run(tmp_path / "demo", call)
    assert [arguments[arguments.index("--config_file") + 1].count(".json") for arguments in called] == [1, 2, 1]
    assert "grey matter 0.500, white matter 0.500" in told[1] and "adapter of 0.5 MB" in told[0]
    assert told[2].endswith("_overlay.png")
    files = [f for a in called for f in re.findall(r"[^\[\]', ]+\.json", a[a.index("--config_file") + 1])]
    assert all((demo.Path(demo.__file__).parents[1] / file).is_file() for file in files)


def test_a_command_that_fails_says_why():
    with pytest.raises(ValueError, match="no such thing"):
        run_python(["-c", "raise ValueError('no such thing')"])
