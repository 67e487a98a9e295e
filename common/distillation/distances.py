# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""How far a student's features are from the teacher's."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def l2(student: Tensor, teacher: Tensor) -> Tensor:
    """(B, ..., C) twice -> (B,): the Euclidean norm of the difference of all features, as in the paper."""
    return (student - teacher).flatten(1).norm(dim=1)


def mse(student: Tensor, teacher: Tensor) -> Tensor:
    """(B, ..., C) twice -> (B,): the mean squared difference."""
    return (student - teacher).square().flatten(1).mean(dim=1)


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """(B, ..., C) twice -> (B,): 1 minus the cosine between the two channel vectors of a place, mean over places."""
    return 1 - F.cosine_similarity(student, teacher, dim=-1).flatten(1).mean(dim=1)


DISTANCES = {"l2": l2, "mse": mse, "cosine": cosine}
