# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Real MONAI Label servers, started as tools/monailabel.sh starts them.

``bash tools/monailabel.sh --test`` runs these tests in the server's own environment; elsewhere they are skipped.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from servers import STAND_INS, Server, running, with_threshold_network

from tools.label_server.app_folder import make_app

sys.path.extend(STAND_INS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these tests have the marker; without MONAI Label there is no server to test."""
    skip = pytest.mark.skip(reason="needs MONAI Label: bash tools/monailabel.sh --test")
    for item in (i for i in items if Path(__file__).parent in i.path.parents):
        item.add_marker(pytest.mark.label_server)
        if find_spec("monailabel") is None:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def start(tmp_path_factory) -> Callable:
    """``with start(studies, ...) as server``: a server with the project's bundles and weights."""

    @contextmanager
    def run(studies: Path, *more: str, bundles=("fastsam3d",), labels=None, change: Callable | None = None):
        folder = tmp_path_factory.mktemp("server")
        models, _ = make_app(folder / "app", bundles, labels)
        if change:
            change(folder / "app" / "model")
        with running(folder / "app", studies, models, folder, *more) as server:
            yield server

    return run


@pytest.fixture(scope="session")
def known(start, tmp_path_factory) -> Iterator[Server]:
    """A server whose masks are known: what is bright where it is clicked. Its folder of studies is empty at first."""
    studies = tmp_path_factory.mktemp("studies")
    with start(studies, labels={"fastsam3d": ("liver", "spleen", "tumour")}, change=with_threshold_network) as server:
        yield server
