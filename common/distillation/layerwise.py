# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The loss between pairs of layers of a student and its teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .distances import DISTANCES


def block_pairs(student_depth: int, teacher_depth: int, ratio: int = 2) -> list[tuple[int, int]]:
    """(teacher block, student block), counted from 1: block i of the student follows block ratio * i of the teacher.

    Raises:
        ValueError: a teacher with too few blocks.
    """
    if ratio < 1 or ratio * student_depth > teacher_depth:
        raise ValueError(
            f"{ratio} teacher blocks for each of {student_depth} student blocks: the teacher has "
            f"{teacher_depth}; expected a ratio from 1 to {teacher_depth // max(1, student_depth)}"
        )
    return [(ratio * i, i) for i in range(1, student_depth + 1)]


def layerwise_distance(
    student: Sequence[Tensor], teacher: Sequence[Tensor], distance: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Mean over the batch of 1/k * the sum over k pairs of their distance.

    Args:
        student: k tensors (B, ..., C).
        teacher: k tensors of the same shapes.
        distance: two such tensors -> (B,).
    """
    return torch.stack([distance(s, t) for s, t in zip(student, teacher, strict=True)]).mean(dim=0).mean()


class LayerwiseLoss(nn.Module):
    """The distances of the first k pairs of layers (FastSAM3D, section 2.1), with projections where widths differ.

    A layer is named by its number, counted from 1, or by a name such as ``embedding``.

    Args:
        pairs: (teacher layer, student layer), in the order in which k takes them in.
        distance: ``l2`` (the paper's), ``mse`` or ``cosine``.
        widths: channels of (teacher, student) of those pairs that differ, as many as pairs or a single one for all;
            None where they are the same. A linear layer, trained with the student, then maps the student's features.

    Raises:
        ValueError: no pair, an unknown distance, or widths for other than the pairs.
    """

    def __init__(
        self,
        pairs: Sequence[Sequence[int | str]],
        distance: str = "l2",
        widths: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        if distance not in DISTANCES:
            raise ValueError(f"distance {distance!r}: expected one of {', '.join(DISTANCES)}")
        self.pairs = [tuple(pair) for pair in pairs]
        if not self.pairs or any(len(pair) != 2 for pair in self.pairs):
            raise ValueError(f"pairs {pairs}: expected [[teacher layer, student layer], ...]")
        self.distance = DISTANCES[distance]
        widths = [(0, 0)] if widths is None else list(widths)
        widths = widths * len(self.pairs) if len(widths) == 1 else widths
        if len(widths) != len(self.pairs):
            raise ValueError(f"{len(widths)} widths for {len(self.pairs)} pairs: expected one each, or one for all")
        self.projections = nn.ModuleList(nn.Identity() if t == s else nn.Linear(s, t) for t, s in widths)

    def forward(
        self, student: Mapping[int | str, Tensor], teacher: Mapping[int | str, Tensor], k: int | None = None
    ) -> Tensor:
        """The loss over the first k pairs, all of them where k is None.

        Args:
            student: layer -> (B, d, h, w, C).
            teacher: layer -> (B, d', h', w', C'). Where the grids differ, the student's is resized to the teacher's.
            k: how many pairs.

        Raises:
            ValueError: a layer that is not there, or channels that differ without a projection.
        """
        ours, theirs = [], []
        for (t, s), projection in list(zip(self.pairs, self.projections, strict=True))[:k]:
            if t not in teacher or s not in student:
                raise ValueError(
                    f"pair {[t, s]}: the teacher has layers {list(teacher)}, the student {list(student)}; "
                    "expected one of each"
                )
            features = projection(on_grid(student[s], teacher[t].shape[1:-1]))
            if features.shape != teacher[t].shape:
                raise ValueError(
                    f"pair {[t, s]}: teacher {tuple(teacher[t].shape)}, student {tuple(features.shape)}; expected the "
                    f"same: give widths, [[teacher channels, student channels]], for a projection"
                )
            ours.append(features.float())
            theirs.append(teacher[t].float())
        return layerwise_distance(ours, theirs, self.distance)


def on_grid(features: Tensor, grid: Sequence[int]) -> Tensor:
    """(B, d, h, w, C) on another grid: averaged if it is coarser, interpolated if finer, unchanged if it fits."""
    if tuple(features.shape[1:-1]) == tuple(grid):
        return features
    x = features.movedim(-1, 1)
    coarser = all(n >= m for n, m in zip(x.shape[2:], grid, strict=True))
    x = F.adaptive_avg_pool3d(x, tuple(grid)) if coarser else F.interpolate(x, size=tuple(grid), mode="trilinear")
    return x.movedim(1, -1)
