# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""From image files to voxels and their place in space: one rule for both bundles, the command line and the server."""
