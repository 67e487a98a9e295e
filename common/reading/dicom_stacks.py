# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""DICOM files sorted into stacks: each has one orientation, one size, and one image at each position."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .dicom_pixels import decode
from .dicom_tags import Slice

# Directions that part by less than this are one: positions of 4 decimals, and half a voxel over a whole image.
SAME_DIRECTION = 5e-4
# mm by which two images of one position may part.
SAME_PLACE = 1e-3
LISTED = 20
AXES = {0: "sagittal", 1: "coronal", 2: "axial"}
# What a note of the images beside the stack begins with.
LEFT = "left aside"


@dataclass
class Stack:
    """Slices that can make one volume.

    Attributes:
        slices: in no order yet.
        kind: what tells it from other stacks of its series.
        notes: what was done to make it one.
    """

    slices: list[Slice]
    kind: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def series(self) -> str:
        """SeriesInstanceUID."""
        return self.slices[0].series

    @property
    def aside(self) -> str:
        """Why it is no volume; empty where it may be one."""
        return self.slices[0].aside

    def describe(self) -> str:
        """In one line, for people."""
        first = self.slices[0]
        parts = [first.about, f"{len(self.slices)} images of {first.size[1]} x {first.size[0]}"]
        if first.orientation is not None:
            parts.append(AXES[int(np.abs(np.cross(*first.orientation)).argmax())])
        return ", ".join([*parts, *filter(None, [self.aside, self.kind]), first.series])


class SeveralStacks(ValueError):
    """A folder of which more than one stack could be meant.

    Attributes:
        choices: (what ``series`` names it by, what a person reads of it), in the order of the list.
    """

    def __init__(self, sentence: str, choices: list[tuple[int, str]]) -> None:
        super().__init__(sentence)
        self.choices = choices


def stacks_of(slices: Sequence[Slice]) -> list[Stack]:
    """All stacks, those of one series together.

    Raises:
        ValueError: files of one SOPInstanceUID that differ.
    """
    stacks = []
    series = sorted({s.series for s in slices})
    for uid in series:
        for part in _alike([s for s in slices if s.series == uid]):
            stacks.extend(_phases(_once(Stack(part))))
    return stacks


def choose(stacks: Sequence[Stack], wanted: str | int | None, place: Path) -> Stack:
    """The one to read; what is left for a good reason is named in its notes.

    Args:
        stacks: of a folder.
        wanted: number in the list, or a series; None for the only one.
        place: the folder, for the message.

    Raises:
        SeveralStacks: several could be meant.
        ValueError: none is there, or ``wanted`` names none.
    """
    # In one line, because whoever shows an error may show one line of it.
    listed = "; ".join(f"{i}: {s.describe()}" for i, s in enumerate(stacks[:LISTED], start=1))
    listed += f"; and {len(stacks) - LISTED} more" if len(stacks) > LISTED else ""
    if wanted is not None:
        text = str(wanted).strip()
        chosen = [s for s in stacks if s.series == text]
        if not chosen and text.isdigit() and 1 <= int(text) <= len(stacks):
            chosen = [stacks[int(text) - 1]]
        if len(chosen) != 1:
            which = "no stack" if not chosen else f"{len(chosen)} stacks"
            raise ValueError(f"{place}: series {text!r} names {which}; expected one number of: {listed}")
        return chosen[0]
    volumes = [s for s in stacks if not s.aside]
    if not volumes:
        raise ValueError(f"{place}: holds no stack of slices; expected one, or a number of these as --series: {listed}")
    # A single image beside a whole stack is a scout or a picture of a report, whatever it calls itself.
    if any(len(s.slices) > 2 for s in volumes):
        volumes = [s for s in volumes if len(s.slices) > 1]
    if len(volumes) > 1:
        raise SeveralStacks(
            f"{place}: holds more than one DICOM series or stack; expected a single one, or its number in this list "
            f"as --series: {listed}",
            [(i, s.describe()) for i, s in enumerate(stacks, start=1) if any(s is v for v in volumes)],
        )
    stack = volumes[0]
    left = [s for s in stacks if s is not stack]
    if left:
        named = "; ".join(f"{s.describe()} ({s.slices[0].name})" for s in left[:5])
        more = f"; and {len(left) - 5} more" if len(left) > 5 else ""
        stack.notes.append(f"{LEFT}: {named}{more}")
    return stack


def _alike(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Groups of one size, pixel spacing and orientation."""
    groups: list[list[Slice]] = []
    for s in slices:
        same = next((g for g in groups if _is_alike(g[0], s)), None)
        if same is None:
            groups.append([s])
        else:
            same.append(s)
    return groups


def _is_alike(a: Slice, b: Slice) -> bool:
    if a.size != b.size or a.aside != b.aside or (a.spacing is None) != (b.spacing is None):
        return False
    if (a.orientation is None) != (b.orientation is None) or (a.position is None) != (b.position is None):
        return False
    spacing = a.spacing is None or np.allclose(a.spacing, b.spacing, rtol=1e-3, atol=0)
    return spacing and (a.orientation is None or np.allclose(a.orientation, b.orientation, atol=SAME_DIRECTION))


def _once(stack: Stack) -> Stack:
    """Without the second files of one image."""
    kept: dict[str, Slice] = {}
    twice = []
    for s in stack.slices:
        first = kept.setdefault(s.uid, s)
        if first is s:
            continue
        if not _same_pixels(first, s):
            raise ValueError(f"{s.file}: has the SOPInstanceUID of {first.file.name} and other pixels; remove one")
        twice.append(s)
    return _without(stack, list(kept.values()), twice)


def _phases(stack: Stack) -> list[Stack]:
    """The stack itself where no position has two images; else one for each phase, echo, weighting, ..."""
    first = stack.slices[0]
    if first.position is None or first.orientation is None or np.linalg.norm(np.cross(*first.orientation)) < 0.5:
        return [stack]
    at = _positions(stack.slices)
    most = max(map(len, at))
    if most == 1:
        return [stack]
    place = {id(s): key for key, group in enumerate(at) for s in group}
    for names in _combinations(stack.slices):
        parts = _split(stack.slices, lambda s, names=names: tuple(s.kinds.get(n, "") for n in names))
        if len(parts) == most and all(len({place[id(s)] for s in p}) == len(p) for p in parts.values()):
            kinds = [", ".join(f"{n} {v}" for n, v in zip(names, values, strict=True)) for values in parts]
            return [Stack(p, kind, list(stack.notes)) for kind, p in zip(kinds, parts.values(), strict=True)]
    kept, twice = [], []
    for group in at:
        kept.append(group[0])
        for s in group[1:]:
            (twice if _same_pixels(group[0], s) else kept).append(s)
    if twice:
        return _phases(_without(stack, kept, twice))
    if len({len(g) for g in at}) > 1:
        return [stack]
    # Nothing but the order of the images tells them apart.
    ordered = [sorted(g, key=lambda s: (s.number, s.name)) for g in at]
    return [
        Stack(list(phase), f"image {i} of {most} at each position ({phase[0].name}, ...)", list(stack.notes))
        for i, phase in enumerate(zip(*ordered, strict=True), start=1)
    ]


def _positions(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Images of one place along the stack together."""
    normal = np.cross(*slices[0].orientation)
    along = np.array([s.position @ normal for s in slices])
    groups: list[list[Slice]] = []
    last = -np.inf
    for index in np.argsort(along, kind="stable"):
        if along[index] - last > SAME_PLACE:
            groups.append([])
        groups[-1].append(slices[index])
        last = along[index]
    return groups


def _combinations(slices: Sequence[Slice]) -> list[tuple[str, ...]]:
    """Names of what differs among the slices, one and two at a time, and all together."""
    names = list(dict.fromkeys(n for s in slices for n in s.kinds))
    names = [n for n in names if len({s.kinds.get(n, "") for s in slices}) > 1]
    pairs = list(itertools.combinations(names, 2))
    return [*((n,) for n in names), *pairs, *([tuple(names)] if len(names) > 2 else [])]


def _split(slices: Sequence[Slice], key: Callable[[Slice], Hashable]) -> dict[Hashable, list[Slice]]:
    parts: dict[Hashable, list[Slice]] = defaultdict(list)
    for s in slices:
        parts[key(s)].append(s)
    return parts


def _same_pixels(a: Slice, b: Slice) -> bool:
    return np.array_equal(decode(a.file)[a.frame], decode(b.file)[b.frame])


def _without(stack: Stack, kept: list[Slice], twice: list[Slice]) -> Stack:
    if not twice:
        return stack
    note = f"{len(twice)} images are there twice and count once, such as {twice[0].name}"
    return Stack(kept, stack.kind, [*stack.notes, note])
