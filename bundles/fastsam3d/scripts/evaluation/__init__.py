# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.
"""How good masks are after simulated clicks, on the grid of the image."""
