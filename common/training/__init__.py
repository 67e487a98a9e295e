# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Trainings that may be stopped at any moment and resume to the same weights: ignite handlers for both bundles."""

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
