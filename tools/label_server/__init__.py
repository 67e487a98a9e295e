# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A MONAI Label server for the bundles: ``bash tools/monailabel.sh``."""
