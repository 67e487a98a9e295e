# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Prompts as users and clients spell them, checked and brought into one form.

Positions are voxel indices of the file as it is stored, (i, j, k) along its axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

POINT_KEYS = ("foreground", "background", "points", "point_labels")
# Label maps on the image's grid.
MASK_KEYS = ("scribble", "lasso", "previous_mask")
OBJECT_KEYS = (*POINT_KEYS, "box", *MASK_KEYS)
DEFAULT_NAME = "object"
SPELLINGS = (
    "foreground and background as lists of [i, j, k], or points with point_labels (1 foreground, 0 background), "
    "or box as [[i, j, k], [i, j, k]], or scribble, lasso or previous_mask as a file, or objects as {name: prompts}"
)


@dataclass(frozen=True)
class ObjectPrompt:
    """What was given for one object.

    Attributes:
        name: of the object in the label map.
        points: voxel indices, in the order in which they were given.
        labels: 1 foreground, 0 background, for each point.
        box: lowest and highest voxel, both inside the box.
        scribble: file of a label map: 1 foreground, 2 background strokes.
        lasso: file of a label map, in one slice or a few: 1 inside an outline around the object, 2 inside one around
            what is not the object.
        previous_mask: file of the object's last mask, nonzero inside.
        notes: what was changed of it, for the user.
    """

    name: str
    points: tuple[tuple[float, float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    scribble: str | None = None
    lasso: str | None = None
    previous_mask: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def foreground(self) -> tuple[tuple[float, float, float], ...]:
        """The foreground points alone."""
        return tuple(p for p, label in zip(self.points, self.labels, strict=True) if label == 1)

    @property
    def masks(self) -> tuple[str, ...]:
        """The files that are named, in the order of MASK_KEYS."""
        return tuple(name for name in (getattr(self, key) for key in MASK_KEYS) if name)

    def with_points(self, points: Sequence[Sequence[float]], labels: Sequence[int]) -> ObjectPrompt:
        """The same prompts and further points, which come first."""
        more = tuple(tuple(float(x) for x in p) for p in points)
        return replace(self, points=more + self.points, labels=tuple(int(v) for v in labels) + self.labels)


def check_counts(prompts: Sequence[ObjectPrompt], max_objects: int, max_clicks: int) -> None:
    """Refuse more than can be answered while somebody waits.

    Args:
        prompts: of a request.
        max_objects: in it.
        max_clicks: of an object.

    Raises:
        ValueError: more of them.
    """
    if len(prompts) > max_objects:
        raise ValueError(f"{len(prompts)} objects: expected at most {max_objects}; max_objects raises it")
    for prompt in prompts:
        if len(prompt.points) > max_clicks:
            count = len(prompt.points)
            raise ValueError(f"{prompt.name}: {count} clicks: expected at most {max_clicks}; max_clicks raises it")


def read_prompts(data: Mapping[str, Any], shape: Sequence[int]) -> list[ObjectPrompt]:
    """Every object asked for in ``data``, checked against a volume of ``shape``.

    Args:
        data: the three spellings in use: ``foreground`` / ``background``; ``points`` + ``point_labels``;
            ``{name: points}``, at the top or (also ``{name: prompts}``) under ``objects``. Also ``box``,
            ``scribble``, ``lasso`` and ``previous_mask``. ``None`` and empty values count as absent.
        shape: voxels of the stored volume along its three axes.

    Raises:
        ValueError: no prompt at all, or one of the wrong form, or outside the volume.
    """
    alone = {k: data[k] for k in OBJECT_KEYS if _given(data.get(k))}
    objects = data.get("objects")
    if not _given(objects) and not alone.keys() - {"background"}:
        # Clients with several labels send {name: points} beside the other keys of a request, and one background.
        background = alone.pop("background", [])
        objects = {k: {"foreground": v, "background": background} for k, v in data.items() if _is_named_points(k, v)}
        if not objects and _given(background):
            alone["background"] = background
    if not _given(objects):
        if not alone:
            raise ValueError(f"no prompt was given: expected {SPELLINGS}")
        return [_read_object(str(data.get("label") or DEFAULT_NAME), alone, shape)]
    if alone:
        raise ValueError(f"objects and {', '.join(alone)} were both given: move the latter into objects")
    if not isinstance(objects, Mapping):
        raise ValueError(f"objects is {objects!r}: expected {{name: prompts}}")
    prompts = []
    for name, given in objects.items():
        given = given if isinstance(given, Mapping) else {"foreground": given}
        unknown = [k for k in given if k not in OBJECT_KEYS]
        if unknown:
            raise ValueError(f"object {name!r} has {', '.join(map(repr, unknown))}: expected {', '.join(OBJECT_KEYS)}")
        prompts.append(_read_object(str(name), {k: v for k, v in given.items() if _given(v)}, shape))
    return prompts


def _is_named_points(key: str, value: Any) -> bool:
    """Whether a key of a request that we do not know holds points; only nested triples of numbers can be."""
    if key in OBJECT_KEYS or not isinstance(value, (list, tuple)) or not value:
        return False
    return all(
        isinstance(p, (list, tuple)) and len(p) == 3 and all(isinstance(x, (int, float)) for x in p) for p in value
    )


def _given(value: Any) -> bool:
    if value is None or isinstance(value, str):
        return bool(value)
    return len(value) > 0 if hasattr(value, "__len__") else True


def _read_object(name: str, given: Mapping[str, Any], shape: Sequence[int]) -> ObjectPrompt:
    foreground = _read_points(name, "foreground", given.get("foreground"), shape)
    background = _read_points(name, "background", given.get("background"), shape)
    points = _read_points(name, "points", given.get("points"), None)
    labels = _read_labels(name, given.get("point_labels"), len(points))
    # Some clients pad: what is labelled -1 is no point, wherever it lies.
    kept = [(p, v) for p, v in zip(points, labels, strict=True) if v >= 0]
    for point, _ in kept:
        _check_inside(name, "points", np.array(point), shape)
    points = foreground + background + [p for p, _ in kept]
    labels = [1] * len(foreground) + [0] * len(background) + [v for _, v in kept]
    box, notes = _read_box(name, given.get("box"), shape)
    prompt = ObjectPrompt(
        name,
        tuple(points),
        tuple(labels),
        box,
        *(_read_file(name, key, given.get(key)) for key in MASK_KEYS),
        notes,
    )
    if not (prompt.foreground or prompt.box or prompt.masks):
        raise ValueError(
            f"{name}: nothing says where the object is ({len(points)} points, none of them foreground): expected "
            f"at least one foreground point, a box, a scribble, a lasso or a previous mask"
        )
    return prompt


def _numbers(value: Any) -> np.ndarray | None:
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "iuf":
            return None
        return array.astype(np.float64)
    except (ValueError, TypeError):
        return None


def _read_points(name: str, key: str, value: Any, shape: Sequence[int] | None) -> list[tuple[float, float, float]]:
    """The points, all of them inside a volume of ``shape`` if it is given."""
    if value is None:
        return []
    array = _numbers(value)
    if array is not None and array.shape == (3,):
        array = array[None]
    if array is None or array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"{name}: {key} is {value!r}: expected a list of [i, j, k] voxel indices")
    for point in array if shape is not None else ():
        _check_inside(name, key, point, shape)
    return [tuple(float(x) for x in p) for p in array]


def _check_inside(name: str, key: str, point: np.ndarray, shape: Sequence[int]) -> None:
    # Half a voxel more on each side is still inside the border voxel.
    if not np.all((point >= -0.5) & (point <= np.asarray(shape) - 0.5)):
        last = [n - 1 for n in shape]
        raise ValueError(
            f"{name}: {key} {[float(x) for x in point]} lies outside the volume: expected voxel indices from "
            f"[0, 0, 0] to {last}, in the axes of the stored file"
        )


def _read_labels(name: str, value: Any, count: int) -> list[int]:
    if value is None and not count:
        return []
    labels = _numbers([] if value is None else value)
    if labels is None or labels.shape != (count,):
        raise ValueError(f"{name}: {count} points and point_labels {value!r}: expected one label for each point")
    if not np.isin(labels, (1, 0, -1)).all():
        raise ValueError(f"{name}: point_labels {value!r}: expected 1 (foreground) or 0 (background)")
    return [int(v) for v in labels]


def _read_box(name: str, value: Any, shape: Sequence[int]) -> tuple[tuple | None, tuple[str, ...]]:
    """Lowest and highest voxel, and what was changed of them."""
    if value is None:
        return None, ()
    box = _numbers(value)
    if box is not None and box.shape == (6,):
        box = box.reshape(2, 3)
    if box is None or box.shape != (2, 3):
        raise ValueError(f"{name}: box is {value!r}: expected [[i, j, k], [i, j, k]], lowest and highest voxel")
    # Many count the end of a box as the first voxel beyond it.
    beyond = (box[1] > np.array(shape) - 0.5) & (box[1] <= shape)
    notes = ()
    if beyond.any():
        box[1] = np.where(beyond, np.array(shape) - 1.0, box[1])
        notes = (f"the box was cut off at the last voxel of the volume, {[n - 1 for n in shape]}",)
    for corner in box:
        _check_inside(name, "box corner", corner, shape)
    if (box[0] > box[1]).any():
        raise ValueError(f"{name}: box {value!r} has a minimum above its maximum: expected [lowest, highest] voxel")
    return tuple(tuple(float(x) for x in corner) for corner in box), notes


def _read_file(name: str, key: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, (str, bytes)) and not hasattr(value, "__fspath__"):
        raise ValueError(f"{name}: {key} is {type(value).__name__}: expected the path of a file on the image's grid")
    return str(value)
