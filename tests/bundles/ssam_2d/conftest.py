# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The bundle run in-process, with a network whose answers are known or with random weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from colour_network import ColourNetwork
from workflows import random_network, refusal, run_configs, scripts_of

SSAM = Path(__file__).resolve().parents[3] / "bundles" / "ssam_2d"


@pytest.fixture
def ssam_path():
    """The bundle's folder, whose ``scripts`` are importable."""
    with scripts_of(SSAM):
        yield SSAM


@pytest.fixture
def colour_network() -> ColourNetwork:
    """The stand-in network; its class is in colour_network.py."""
    return ColourNetwork()


@pytest.fixture(scope="session")
def ssam_weights(tmp_path_factory) -> Path:
    """A state dict of the configuration's network_def with seeded random weights, and its labels."""
    network = random_network(SSAM)
    torch.nn.init.normal_(network.label_features)
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
        # What a developer has in the cache shall not change what tests see.
        settings.setdefault("box_path", None)
        settings |= overrides
        config = settings.pop("config_file", [])
        run_configs(SSAM, ["inference.json", *config], **settings)
        return Path(settings["output_dir"])

    return run


@pytest.fixture
def refused(run_ssam, tmp_path):
    """See :func:`workflows.refusal`."""
    return refusal(run_ssam, tmp_path / "refused")
