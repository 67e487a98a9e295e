# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Many images by one command: a table of jobs in, masks and a table of results out."""
