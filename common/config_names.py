# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Names of classes in a bundle's configuration, as they are where the bundle is a part of something larger."""

from __future__ import annotations

import re
from typing import Any


def in_package(config: Any, package: str) -> Any:
    """The configuration with ``package`` for ``scripts``, so that two bundles can be used in one process.

    Args:
        config: of a bundle, whose components and expressions name ``scripts.``
        package: under which the bundle's ``scripts`` is imported here.
    """
    if isinstance(config, dict):
        return {k: in_package(v, package) for k, v in config.items()}
    if isinstance(config, list):
        return [in_package(v, package) for v in config]
    if isinstance(config, str) and config.startswith("scripts."):
        return f"{package}.{config.removeprefix('scripts.')}"
    if isinstance(config, str) and config.startswith("$"):
        return re.sub(r"(?<![\w.])scripts\.", f"{package}.", config)
    return config
