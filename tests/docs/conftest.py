# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The commands of all documents, read once."""

import pytest
from documented import Command, documented_commands


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> list[Command]:
    """All of them."""
    return documented_commands(tmp_path_factory.mktemp("documented"))
