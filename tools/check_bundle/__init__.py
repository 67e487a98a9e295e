# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What the Model Zoo's continuous integration asks of a bundle, and what its users do first."""
