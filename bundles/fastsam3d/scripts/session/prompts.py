# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What somebody said of an object, checked, and as the engine takes it.

A background prompt of any kind means "not here": the engine makes clicks on the background of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..common.prompts import ObjectPrompt, read_prompts
from .packed import PackedMask, slices

POINT, BOX, SCRIBBLE, LASSO, MASK = KINDS = ("point", "box", "scribble", "lasso", "mask")
# Of strokes in a label map.
ON, OFF = 1, 2


class Prompt(NamedTuple):
    """One prompt.

    Attributes:
        id: by which it is removed.
        kind: one of KINDS; ``mask`` is an initial segmentation.
        include: it is on the object; not, on the background.
        given: (3,) voxel indices of a point, ((lo, hi), (lo, hi), (lo, hi)) of a box, half open, or a
            :class:`.packed.PackedMask`.
    """

    id: int
    kind: str
    include: bool
    given: Any


class Said(NamedTuple):
    """An object.

    Attributes:
        id: its value in the session's label map.
        name: of the object.
        prompts: all that was said.
        answered: those of them that the mask is of.
    """

    id: int
    name: str
    prompts: tuple[Prompt, ...] = ()
    answered: tuple[Prompt, ...] = ()

    @property
    def is_placed(self) -> bool:
        """Whether what was answered says where the object is, and not alone where it is not."""
        return any(p.include for p in self.answered)


def read_point(coordinates: Any, shape: Sequence[int]) -> tuple[float, float, float]:
    """(3,) voxel indices, inside a volume of ``shape``.

    Raises:
        ValueError: anything else.
    """
    place = _numbers(coordinates, "coordinates", (3,), "three voxel indices, such as [10, 20, 30]")
    return read_prompts({"foreground": [place.tolist()]}, shape)[0].points[0]


def read_box(box: Any, shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """((lo, hi), (lo, hi), (lo, hi)): half open, inside a volume of ``shape``.

    Raises:
        ValueError: anything else.
    """
    expected = "[[lo, hi], [lo, hi], [lo, hi]], along each axis the first voxel inside and the first one after it"
    sides = _numbers(box, "box", (3, 2), expected)
    if (sides != np.round(sides)).any():
        raise ValueError(f"box {sides.tolist()}: expected whole numbers: {expected}")
    sides = sides.astype(int)
    if (sides[:, 0] >= sides[:, 1]).any():
        raise ValueError(f"box {sides.tolist()}: no voxel inside; expected {expected}; of a flat box hi is lo + 1")
    if (sides[:, 0] < 0).any() or (sides[:, 1] > np.array(shape)).any():
        raise ValueError(f"box {sides.tolist()}: lies outside the volume of {tuple(shape)} voxels; expected {expected}")
    return tuple((int(low), int(high)) for low, high in sides)


def read_mask(mask: Any, shape: Sequence[int], box: Any = None, name: str = "mask") -> PackedMask:
    """A mask of a whole volume of ``shape``, or of a box of it.

    Args:
        mask: array or tensor of bool or whole numbers, nonzero inside.
        shape: of the volume.
        box: half open, the part of the volume that ``mask`` covers.
        name: for messages.

    Raises:
        ValueError: another shape or type, NaN, or nothing inside.
    """
    values = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    sides = tuple((0, int(n)) for n in shape) if box is None else read_box(box, shape)
    expected = tuple(high - low for low, high in sides)
    if values.shape != expected:
        where = "the image" if box is None else f"interaction_bbox {[list(s) for s in sides]}"
        raise ValueError(f"{name} of shape {values.shape}: expected the shape of {where}, {expected}")
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} of {values.dtype}: expected true and false, or whole numbers, nonzero inside")
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.round(values)).all()):
        raise ValueError(f"{name}: NaN, infinite or broken numbers; expected whole ones, nonzero inside")
    if values.dtype.kind in "if" and values.min() < 0:
        raise ValueError(f"{name}: the value {values.min()}; expected 0 outside, positive numbers inside")
    inside = values != 0
    if not inside.any():
        raise ValueError(f"{name}: every voxel is 0; expected some inside")
    return PackedMask.of(inside, tuple(int(n) for n in shape), [low for low, _ in sides])


def request(said: Said, shape: Sequence[int]) -> tuple[ObjectPrompt, dict[str, Tensor]]:
    """What the engine is asked for an object of an image of ``shape``, and its masks by the prompt's names for them.

    Points go in their order; boxes as the one around them all; strokes as one label map and outlines as another, in
    which boxes on the background are outlines too.
    """
    points = [p for p in said.answered if p.kind == POINT]
    boxes = [np.array(p.given) for p in said.answered if p.kind == BOX and p.include]
    corners = (np.min(boxes, axis=0)[:, 0], np.max(boxes, axis=0)[:, 1] - 1) if boxes else None
    drawn = {
        "scribble": [p for p in said.answered if p.kind == SCRIBBLE],
        "lasso": [p for p in said.answered if p.kind == LASSO or (p.kind == BOX and not p.include)],
        "previous_mask": [p for p in said.answered if p.kind == MASK],
    }
    names = {key: f"{key} of {said.name}" for key, given in drawn.items() if given}
    prompt = ObjectPrompt(
        said.name,
        tuple(p.given for p in points),
        tuple(int(p.include) for p in points),
        None if corners is None else tuple(tuple(float(x) for x in corner) for corner in corners),
        **names,
    )
    return prompt, {name: _label_map(drawn[key], shape) for key, name in names.items()}


def _label_map(drawn: Sequence[Prompt], shape: Sequence[int]) -> Tensor:
    """(X, Y, Z) uint8: ON and OFF, the later of two prompts where they overlap."""
    labels = np.zeros(shape, np.uint8)
    for prompt in drawn:
        value = ON if prompt.include else OFF
        if prompt.kind == BOX:
            labels[slices(prompt.given)] = value
        else:
            prompt.given.draw(labels, value)
    return torch.from_numpy(labels)


def _numbers(given: Any, name: str, shape: tuple[int, ...], expected: str) -> np.ndarray:
    try:
        values = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} {given!r}: expected {expected}") from error
    if values.shape != shape or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise ValueError(f"{name} {given!r}: expected {expected}")
    return values.astype(float)
