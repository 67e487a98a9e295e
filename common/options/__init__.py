# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The options of a configuration, checked before anything else is made of it."""

from .schema import Options

__all__ = ["Options"]
