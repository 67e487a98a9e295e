# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The servers that the tests of this folder talk to."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec

import pytest

NEEDED = ("fastapi", "uvicorn", "nnInteractive", "httpx")
collect_ignore_glob = [] if all(map(find_spec, NEEDED)) else ["test_*.py"]


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of one for all tests that need no options."""
    from interactive_server_help import running

    with running("--max-sessions", "40") as address:
        yield address


@pytest.fixture(scope="session")
def start_server() -> Callable:
    """``with start_server("--option", ...) as address``."""
    from interactive_server_help import running

    return running
