# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Parts of a configuration, without what MONAI wraps around the errors of its components."""

from __future__ import annotations

from typing import Any

from monai.bundle import ConfigParser


def parsed_content(parser: ConfigParser, name: str) -> Any:
    """What the id stands for.

    Raises:
        ValueError: what a component says of its arguments, as it says it.
    """
    try:
        return parser.get_parsed_content(name)
    except RuntimeError as error:
        cause = error.__cause__
        while cause is not None and not isinstance(cause, ValueError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise ValueError(str(cause)) from error
