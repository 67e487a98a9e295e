# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

import os

from common.waiting import wait_briefly

# Before anything imports torch.
wait_briefly(os.environ)
