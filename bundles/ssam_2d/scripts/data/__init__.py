# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Labelled images from folders and lists, and their masks; what is wrong with them is found first."""
