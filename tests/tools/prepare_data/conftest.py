# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

from pathlib import Path

import pytest
from data_set_trees import TREES

from tools.prepare_data.case import Choices
from tools.prepare_data.run import prepare


@pytest.fixture
def tree(tmp_path):
    """Makes a miniature source folder: ``tree("glas") -> path``."""

    def make(name: str, maker=None) -> Path:
        root = tmp_path / "source" / name
        root.mkdir(parents=True)
        (maker or TREES[name])(root)
        return root

    return make


@pytest.fixture
def prepared(tmp_path):
    """Prepares a folder in this process: ``prepared("glas", source) -> (output, summary)``."""

    def run(name: str, source: Path, output: str = "prepared", choices: Choices | None = None, **options):
        folder = tmp_path / output
        return folder, prepare(name, source, folder, choices, progress=False, **options)

    return run
