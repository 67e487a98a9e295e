# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""One module a data set: ``find(source, choices)`` says what a folder of it holds; ``../about.json`` describes it."""
