# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Progressive layer-wise distillation (FastSAM3D, arXiv 2403.09827, section 2.1): feature losses, schedule, cache."""

from .distances import DISTANCES, cosine
from .feature_cache import FeatureCache
from .layerwise import LayerwiseLoss, block_pairs, layerwise_distance, on_grid
from .schedule import ProgressiveSchedule

__all__ = [
    "DISTANCES",
    "FeatureCache",
    "LayerwiseLoss",
    "ProgressiveSchedule",
    "block_pairs",
    "cosine",
    "layerwise_distance",
    "on_grid",
]
