# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What the logits of ``fastsam3d`` are worth as probabilities: ``python -m tools.research.calibration``."""
