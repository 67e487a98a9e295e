# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Several evaluations in one table and a few plots: ``python -m tools.report RUN...``."""
