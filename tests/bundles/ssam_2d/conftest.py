# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The bundle run in-process, with a network whose answers are known or with random weights."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from colour_network import ColourNetwork
from monai.bundle import ConfigParser
from workflows import run_configs

SSAM = Path(__file__).resolve().parents[3] / "bundles" / "ssam_2d"


def forget_scripts() -> None:
    """Bundles all call their code ``scripts``: the next one has to find its own."""
    for name in [n for n in sys.modules if n == "scripts" or n.startswith("scripts.")]:
        del sys.modules[name]


@pytest.fixture
def ssam_path():
    """The bundle's folder, with its ``scripts`` importable as ``monai.bundle`` imports them, and forgotten after."""
    before = list(sys.path)
    sys.path.insert(1, str(SSAM))
    yield SSAM
    sys.path[:] = before
    forget_scripts()


@pytest.fixture
def colour_network() -> ColourNetwork:
    """The stand-in network; its class is in colour_network.py."""
    return ColourNetwork()


@pytest.fixture(scope="session")
def ssam_weights(tmp_path_factory) -> Path:
    """A state dict of the configuration's network_def with seeded random weights, and its labels."""
    sys.path.insert(1, str(SSAM))
    try:
        parser = ConfigParser()
        parser.read_config(str(SSAM / "configs" / "inference.json"))
        parser["bundle_root"] = str(SSAM)
        torch.manual_seed(3)
        network = parser.get_parsed_content("network_def")
        torch.nn.init.normal_(network.label_features)
    finally:
        sys.path.remove(str(SSAM))
        forget_scripts()
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def run_ssam(ssam_path, tmp_path, colour_network):
    """The bundle's inference.json run in this process: ``run_ssam(image=..., labels=...) -> output folder``.

    Without ``ckpt_path`` the stand-in network takes the place of ``network_def``.
    """
    count = 0

    def run(**overrides: Any) -> Path:
        nonlocal count
        count += 1
        settings = {"output_dir": str(tmp_path / f"out{count}"), "overlay": False, "device": "cpu"}
        settings["inferer#progress"] = False
        if "ckpt_path" not in overrides:
            weights = tmp_path / "stand_in.pt"
            torch.save(colour_network.state_dict(), weights)
            settings |= {"network_def": colour_network, "ckpt_path": str(weights), "prompt_path": None}
        settings |= overrides
        config = settings.pop("config_file", [])
        run_configs(SSAM, ["inference.json", *config], **settings)
        return Path(settings["output_dir"])

    return run


@pytest.fixture
def refused(run_ssam, tmp_path):
    """``refused(message, image=..., ...)``: the run ends with a ValueError that says so, and writes nothing."""

    def run(message: str, **overrides: Any) -> str:
        folder = tmp_path / "refused"
        with pytest.raises((ValueError, RuntimeError)) as caught:
            run_ssam(**{"output_dir": str(folder), **overrides})
        error = caught.value
        # The configuration's parser wraps what its expressions raise.
        while not isinstance(error, ValueError) and error.__cause__ is not None:
            error = error.__cause__
        assert isinstance(error, ValueError), f"{type(error).__name__}: {error}"
        assert re.search(message, str(error), re.DOTALL), str(error)
        assert not folder.is_dir() or not list(folder.rglob("*"))
        return str(error)

    return run
