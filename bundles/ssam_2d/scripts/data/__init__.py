# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Labelled images: what a folder or a list holds, how masks are read, what is wrong with them."""
