# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The network of the bundle ``fastsam3d``, built from the repository's root."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from torch import nn

from common.config_names import in_package

BUNDLE = Path(__file__).parents[1] / "bundles" / "fastsam3d"


def build_network(config: Path = BUNDLE / "configs" / "inference.json") -> nn.Module:
    """The network that the bundle's configuration names, with random weights."""
    definition = ConfigParser.load_config_file(str(config))["network_def"]
    return ConfigParser({"network_def": from_root(definition)}).get_parsed_content("network_def")


def from_root(definition: Any, bundle: str = BUNDLE.name) -> Any:
    """The same definition with the names of classes as they are from the repository's root."""
    return in_package(definition, f"bundles.{bundle}.scripts")
