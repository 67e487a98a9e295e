# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What made the shipped weights and the comparisons in docs/notebook; nobody needs it to use the bundles."""
