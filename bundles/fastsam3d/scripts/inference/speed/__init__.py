# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Faster forms of the same networks. The bundle is complete without this folder."""
