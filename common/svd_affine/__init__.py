# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Fine-tuning of few numbers: singular values (S-SAM), LoRA and SALT to compare with."""

from .adapt import Adaptation, adapt, adapt_like
from .adapter import Adapter, blend
from .layer import SVDAffine
from .low_rank import SALT, LoRA

__all__ = ["SALT", "Adaptation", "Adapter", "LoRA", "SVDAffine", "adapt", "adapt_like", "blend"]
