# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Training that can be stopped at any moment and goes on to the same weights: ignite handlers that both bundles use."""

from .average import AverageWeights
from .best_weights import BestWeights
from .data_fingerprint import data_fingerprint
from .epoch_seeds import EpochSeeds
from .gradients import ClipGradients, Freeze
from .progress import Progress
from .run_state import RunState
from .seeded_dataset import SeededDataset

__all__ = [
    "AverageWeights",
    "BestWeights",
    "ClipGradients",
    "EpochSeeds",
    "Freeze",
    "Progress",
    "RunState",
    "SeededDataset",
    "data_fingerprint",
]
