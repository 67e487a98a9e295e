# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The page that scans are clicked in: its source, how it is built, and the command that serves it."""
