# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""From a data set as it is distributed to a MONAI data list: ``python -m tools.prepare_data NAME SOURCE OUTPUT``."""
