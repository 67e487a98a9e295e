# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Benchmarks: contestants measured in turns on the same input, against the rate of the machine in the same run."""
