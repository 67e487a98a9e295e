# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Training: of an adapter by label names, and of the small base by simulated clicks and boxes."""
