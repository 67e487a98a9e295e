# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Real MONAI Label servers as processes, and how tests talk to them."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from stand_in import ThresholdNetwork

from tools.label_server.__main__ import arguments, environment, rules, server_command
from tools.label_server.app_folder import ROOT

TESTS = Path(__file__).resolve().parents[1]
# Where the networks lie that stand in for the bundles' own: servers import them, and so do the tests.
STAND_INS = [str(TESTS), str(TESTS / "bundles" / "ssam_2d"), str(ROOT)]


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


def reader(server: Server):
    """The process that reads images and computes."""
    import psutil

    children = psutil.Process(server.process.pid).children()
    return next(p for p in children if "label_app.worker" in p.cmdline())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(
    app: Path, studies: Path, models: list[str], folder: Path, *more: str, stock: bool = False
) -> Iterator[Server]:
    """A server on ``app``, as our command starts it, or with nothing but the stock parts."""
    port = free_port()
    options = arguments().parse_args([str(studies), "--port", str(port), *more])
    env = environment(app, rules(options))
    env["PYTHONPATH"] = os.pathsep.join([env["PYTHONPATH"], *STAND_INS])
    temporary = folder / "temporary"
    temporary.mkdir()
    env |= {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    with open(folder / "server.log", "w") as log:
        command = server_command(app, str(studies), models, options)
        if stock:
            ours = command.index("--uvicorn_app")
            del command[ours : ours + 2]
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
        except urllib.error.HTTPError:
            # It answers, and wants a token.
            return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"the server did not start:\n{server.log()[-3000:]}")


def change_config(models: Path, name: str = "inference.json", **ids: object) -> None:
    """Set top-level ids of a configuration in the served copy of fastsam3d."""
    path = models / "fastsam3d_deepgrow" / "configs" / name
    path.write_text(json.dumps(json.loads(path.read_text()) | ids))


def with_threshold_network(models: Path) -> None:
    """Put the stand-in network, whose masks are known to the voxel, into the served copy of fastsam3d."""
    change_config(models, network_def={"_target_": "stand_in.ThresholdNetwork"}, cube_size=32)
    torch.save(ThresholdNetwork().state_dict(), models / "fastsam3d_deepgrow" / "models" / "model.pt")


def with_little_memory(models: Path) -> None:
    """The bundle's own network on small cubes, with caches that some hundred clicks fill."""
    change_config(models, cube_size=32, rounds=1, volume_cache_bytes=2**22, embedding_cache_bytes=2**24)
