# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Real MONAI Label servers, started as tools/monailabel.sh starts them.

``bash tools/monailabel.sh --test`` runs these tests in the server's own environment; elsewhere they are skipped.
"""

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from stand_in import ThresholdNetwork

from tools.label_server.__main__ import arguments, environment, server_command
from tools.label_server.app_folder import make_app

TESTS = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without MONAI Label there is no server to test."""
    if find_spec("monailabel") is None:
        here = Path(__file__).parent
        skip = pytest.mark.skip(reason="needs MONAI Label: bash tools/monailabel.sh --test")
        for item in (i for i in items if here in i.path.parents):
            item.add_marker(skip)


class Server:
    """A running server, and how to talk to it."""

    def __init__(self, address: str, app: Path, studies: Path, process: subprocess.Popen, folder: Path) -> None:
        self.address = address
        self.app = app
        self.studies = studies
        self.process = process
        self.folder = folder

    def client(self, name: str = "client"):
        """A client with a folder of its own: the server deletes what it wrote into its own temporary folder."""
        from monailabel.client.client import MONAILabelClient

        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return MONAILabelClient(self.address, tmpdir=str(folder))

    def infer(self, model: str, image: str, label_in: str | None = None, **params):
        """The mask as a NIfTI image, and the JSON part of the answer."""
        params = {"result_extension": ".nii.gz", "result_dtype": "uint8", **params}
        file, answer = self.client().infer(model, image, params, label_in=label_in)
        mask = nib.load(file)
        values = np.asarray(mask.dataobj)
        Path(file).unlink()
        return nib.Nifti1Image(values, mask.affine), answer

    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(app: Path, studies: Path, models: list[str], folder: Path, *more: str) -> Iterator[Server]:
    port = free_port()
    options = arguments().parse_args([str(studies), "--port", str(port), *more])
    env = environment(app)
    env["PYTHONPATH"] += os.pathsep + str(TESTS)
    temporary = folder / "temporary"
    temporary.mkdir()
    env |= {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    with open(folder / "server.log", "w") as log:
        command = server_command(app, str(studies), models, options)
        process = subprocess.Popen(command, cwd=app, env=env, stdout=log, stderr=subprocess.STDOUT)
    server = Server(f"http://127.0.0.1:{port}", app, studies, process, folder)
    try:
        wait(server)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait(server: Server, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.process.poll() is None:
        try:
            with urllib.request.urlopen(server.address + "/info/", timeout=10):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"the server did not start:\n{server.log()[-3000:]}")


@pytest.fixture(scope="session")
def start(tmp_path_factory) -> Callable:
    """``with start(studies, ...) as server``: a server with the project's bundles and weights."""

    @contextmanager
    def run(studies: Path, *more: str, bundles=("fastsam3d",), labels=(), change: Callable | None = None):
        folder = tmp_path_factory.mktemp("server")
        models, _ = make_app(folder / "app", bundles, labels)
        if change:
            change(folder / "app" / "model")
        with running(folder / "app", studies, models, folder, *more) as server:
            yield server

    return run


def with_threshold_network(models: Path) -> None:
    """Put the stand-in network, whose masks are known to the voxel, into the served copy of fastsam3d."""
    bundle = models / "fastsam3d_deepgrow"
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config |= {"network_def": {"_target_": "stand_in.ThresholdNetwork"}, "cube_size": 32}
    # Small enough for some hundred clicks to fill them.
    config |= {"volume_cache_bytes": 2**25, "embedding_cache_bytes": 2**25}
    path.write_text(json.dumps(config))
    torch.save(ThresholdNetwork().state_dict(), bundle / "models" / "model.pt")


@pytest.fixture(scope="session")
def known(start, tmp_path_factory) -> Iterator[Server]:
    """A server whose masks are known: what is bright where it is clicked. Its folder of studies is empty at first."""
    studies = tmp_path_factory.mktemp("studies")
    with start(studies, labels=("liver", "spleen", "tumour"), change=with_threshold_network) as server:
        yield server


@pytest.fixture(scope="session")
def own(start, tmp_path_factory) -> Iterator[Server]:
    """A server with the project's weights."""
    with start(tmp_path_factory.mktemp("studies")) as server:
        yield server
