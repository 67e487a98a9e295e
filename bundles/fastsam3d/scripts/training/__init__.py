# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Training: from labelled volumes to cubes, from cubes to prompts, from prompts to a loss."""
