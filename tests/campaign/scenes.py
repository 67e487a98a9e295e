# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A bright ball in a dim body, which the default weights find from one click, on any grid; and how a mask of it is held
against the truth."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from odd_input import OddInput, Wrong
from volumes import dice

# Small cubes: what is tried here does not depend on their size.
CHEAP = {"cube_size": 64, "small_cube_size": 64, "preview": False, "device": "cpu"}
SHAPE, SPACING = (44, 40, 30), (2.0, 2.0, 3.0)
# mm of NIfTI's units of space, by their codes; what has no code counts as mm.
MM = {1: 1e3, 2: 1.0, 3: 1e-3}


@dataclass(frozen=True)
class Scene:
    """A volume whose truth is known in mm.

    Attributes:
        affine: (4, 4), voxel to mm in RAS.
        values: (X, Y, Z) float32.
        inside: points in mm (N, 3) -> (N,) bool, whether they lie in the ball.
        centre: of the ball, mm.
        beside: a point in the body and outside the ball, mm.
    """

    affine: np.ndarray
    values: np.ndarray
    inside: Callable[[np.ndarray], np.ndarray]
    centre: np.ndarray
    beside: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the volume, in voxels."""
        return self.values.shape

    @property
    def truth(self) -> np.ndarray:
        """(X, Y, Z) bool."""
        return self.inside(positions(self.affine, self.shape))

    def voxel(self, mm: Sequence[float]) -> list[int]:
        """The voxel that holds a point, or the nearest one."""
        index = np.rint((np.linalg.inv(self.affine) @ [*mm, 1])[:3])
        return [int(x) for x in index.clip(0, np.array(self.shape) - 1)]

    @property
    def clicks(self) -> dict[str, Any]:
        """A click on the ball and one beside it."""
        return {"foreground": [self.voxel(self.centre)], "background": [self.voxel(self.beside)]}

    @property
    def box(self) -> list[list[int]]:
        """The first and the last voxel of the ball along each axis."""
        inside = np.argwhere(self.truth)
        return [inside.min(0).tolist(), inside.max(0).tolist()]


def positions(affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """(X, Y, Z, 3): the centres of all voxels in mm."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def affine_of(axes: np.ndarray, shape: Sequence[int] = SHAPE) -> np.ndarray:
    """(4, 4): these axis vectors (columns, mm a voxel), the middle of the volume at the origin."""
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = -np.asarray(axes) @ ((np.array(shape) - 1) / 2)
    return affine


def scene(
    rng: np.random.Generator,
    affine: np.ndarray | None = None,
    shape: Sequence[int] = SHAPE,
    look: str = "ct",
    scale: float = 1.0,
) -> Scene:
    """A ball of random place and size.

    Args:
        rng: of the ball and the noise.
        affine: of the volume; by default 2 x 2 x 3 mm.
        shape: in voxels.
        look: ``ct`` in Hounsfield units, ``mr``, or ``bytes`` from 0 to 255.
        scale: everything is as much larger, in mm.
    """
    affine = affine_of(np.diag(SPACING), shape) if affine is None else affine
    middle = (affine @ [*((np.array(shape) - 1) / 2), 1])[:3]
    centre = middle + scale * rng.uniform(-7, 7, 3)
    radii = scale * rng.uniform(12, 16, 3)
    body = scale * np.array([40.0, 37.0, 41.0])

    def inside(mm: np.ndarray) -> np.ndarray:
        return np.linalg.norm((mm - centre) / radii, axis=-1) < 1

    mm = positions(affine, shape)
    air, tissue, bright, noise = {"ct": (-1000, -40, 140, 10), "mr": (20, 200, 420, 12), "bytes": (10, 90, 210, 4)}[
        look
    ]
    values = np.where(inside(mm), bright, np.where(np.linalg.norm((mm - middle) / body, axis=-1) < 1, tissue, air))
    values = (values + rng.normal(0, noise, shape)).astype(np.float32)
    if look == "bytes":
        values = values.clip(0, 255)
    away = middle - centre
    beside = centre + away / max(np.linalg.norm(away), 1e-9) * 1.5 * radii.max()
    return Scene(affine, values, inside, centre, beside)


def check_ball(
    made: Scene, least: float = 0.7, note: str | None = None, mask_name: str = "*_seg.nii*"
) -> Callable[[Path], None]:
    """A check of the one mask in a folder: its grid, its Dice with the ball in mm, the mL that are said.

    Args:
        made: the scene with the true affine in mm.
        least: Dice.
        note: a regular expression; the JSON's notes have to match it.
        mask_name: a pattern of its name.
    """

    def check(out: Path) -> None:
        masks = sorted(out.rglob(mask_name))
        if len(masks) != 1:
            raise Wrong(f"{len(masks)} masks, expected one: {[m.name for m in masks]}")
        check_mask(masks[0], made, least, note)

    return check


def check_mask(file: Path, made: Scene, least: float, note: str | None) -> None:
    """See :func:`check_ball`."""
    mask = nib.load(file)
    inside = np.squeeze(np.asarray(mask.dataobj)) > 0
    unit = MM.get(int(mask.header["xyzt_units"]) & 7, 1.0)
    affine = np.diag([unit, unit, unit, 1]) @ mask.affine
    if sorted(inside.shape) != sorted(n for n in made.shape if n > 1):
        raise Wrong(f"a mask of {inside.shape}, the file has {made.shape}")
    inside = inside.reshape(mask.shape[:3])
    apart = _corners_apart(affine, inside.shape, made.affine, made.shape)
    voxel = abs(np.linalg.det(affine[:3, :3]))
    if not apart < 0.05 * float(np.linalg.norm(made.affine[:3, :3], axis=0).min()):
        raise Wrong(f"the corners of the grid lie up to {apart:.4g} mm away from the file's")
    truth = made.inside(positions(affine, inside.shape))
    if (score := dice(inside, truth)) < least:
        raise Wrong(f"Dice {score:.3f} with the ball: {int(inside.sum())} voxels, the truth has {int(truth.sum())}")
    report = json.loads(file.with_name(file.name.split(".nii")[0] + ".json").read_text())
    said = sum(o["volume_ml"] for o in report["objects"])
    if not np.isclose(said, inside.sum() * voxel / 1000, rtol=0.006, atol=0):
        raise Wrong(f"{said} mL are said, the mask has {inside.sum() * voxel / 1000:.4g}")
    notes = " ".join([*report["notes"], *(n for o in report["objects"] for n in o.get("notes", []))])
    if note is not None and not re.search(note, notes, re.IGNORECASE):
        raise Wrong(f"no note says {note!r}: {notes!r}")


def _corners_apart(affine: np.ndarray, shape: Sequence[int], other: np.ndarray, other_shape: Sequence[int]) -> float:
    """How far, at the most, a corner voxel of one grid lies from the nearest one of the other, in mm."""

    def corners(a: np.ndarray, s: Sequence[int]) -> np.ndarray:
        return np.array([(a @ [*c, 1])[:3] for c in itertools.product(*((0, n - 1) for n in s))])

    distances = np.linalg.norm(corners(affine, shape)[:, None] - corners(other, other_shape)[None], axis=-1)
    return float(max(distances.min(0).max(), distances.min(1).max()))


def seen(said: str, file: Any, made: Scene, options: Mapping[str, Any] | None = None, **more: Any) -> OddInput:
    """A volume that the 3D bundle is given with a click on its ball.

    Args:
        said: what is odd about it.
        file: the volume, whose name a refusal has to give unless ``names`` says otherwise.
        made: what the file shows.
        options: of the bundle.
        more: see :class:`OddInput`.
    """
    more.setdefault("check", check_ball(made))
    if "names" not in more:
        more["names"] = file.name
    return OddInput(said, {"image": str(file), **made.clicks, **CHEAP, **(options or {})}, **more)


def refused(said: str, file: Any, made: Scene, **more: Any) -> OddInput:
    """:func:`seen`, and no mask may come of it."""
    return seen(said, file, made, expect="refused", **more)
