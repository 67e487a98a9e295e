# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The tables of options say what the models and the configurations say."""

import pytest

from tools.options import BUNDLES, main, page


@pytest.mark.parametrize("bundle", ["fastsam3d", "ssam_2d"])
def test_the_documents_are_in_step(bundle):
    written = (BUNDLES / bundle / "docs" / "options.md").read_text(encoding="utf-8")
    assert written == page(bundle), f"run: python -m tools.options {bundle} --write"


def test_one_option_alone(capsys):
    assert main(["fastsam3d", "small_cube_size"]) == 0
    shown = capsys.readouterr().out
    assert "| `small_cube_size` | a whole number from 16 to 512 that is a multiple of 16 or null | `96` |" in shown
    assert "rounds" not in shown
    assert main(["fastsam3d", "colour"]) == 1
