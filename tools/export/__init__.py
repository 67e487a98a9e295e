# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Networks of the bundles as TorchScript and ONNX files; ``python -m tools.export --help``."""
