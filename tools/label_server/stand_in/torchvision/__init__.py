# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The one part of torchvision that MONAI Label imports, for where torchvision itself cannot be.

With a CPU build of torch the torchvision of the package index fails to import, as it is built for CUDA, and MONAI Label
imports two functions of it for the pictures of training that our bundles do not make. This folder is put on the
server's path then, and only then.
"""
