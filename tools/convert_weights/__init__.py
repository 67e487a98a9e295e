# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Published weights to this project's networks, and back to SAM; ``python -m tools.convert_weights --help``."""
