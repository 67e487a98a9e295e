# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The server that 3D Slicer, napari, ITK-SNAP and the page speak to."""
