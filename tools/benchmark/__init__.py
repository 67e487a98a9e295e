# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Benchmarks: contestants take turns on the same input, and the machine's own rate is measured in the same run."""
