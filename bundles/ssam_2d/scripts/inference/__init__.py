# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""From an image and label names, clicks or boxes to an index map on its own pixels."""
