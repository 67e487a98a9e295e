# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What each prompt of ``fastsam3d`` gives, and whether further right clicks make a mask worse."""
