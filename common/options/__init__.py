# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The options of a configuration, checked before any other part of it is built."""

from .schema import Options

__all__ = ["Options"]
