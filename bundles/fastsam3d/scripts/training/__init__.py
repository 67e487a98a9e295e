# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Training: cubes are cut from labelled volumes, prompts are drawn in them, and the loss is of the masks."""
