# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A request is stored with the image when files are read, and read back when the image is segmented."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..common.planes import Plane
from ..common.prompts import OBJECT_KEYS, ObjectPrompt, check_counts, read_prompts
from ..common.request import put_request, single, take_request
from .scene import Scene


class ReadRequestd(MapTransform):
    """Checks what is asked for and puts it into ``image.meta``, see :mod:`..common.request`. Beside the objects:

    - ``labels``: a list of names; None for all labels, or where there are clicks or boxes for none.
    - ``adapter``: the adapter to use, or {name: weight}; it is asked for as ``use_adapter``.

    Clicks and boxes come as ``foreground`` / ``background``, ``points`` + ``point_labels``, ``box``, ``{name: points}``
    or ``objects``: in a 2D image [x, y] pixels (a third index has to be 0), in a volume [i, j, k] voxels as stored.

    Args:
        keys: of the image.
        max_objects: in a request.
        max_clicks: of an object.

    Raises:
        ValueError: a request of another form, a prompt outside the image, or more objects or clicks.
    """

    def __init__(self, keys: KeysCollection = "image", max_objects: int = 100, max_clicks: int = 1000) -> None:
        super().__init__(keys)
        self.max_objects, self.max_clicks = max_objects, max_clicks

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            image = d[key]
            is_picture = image.ndim == 3
            shape = (*image.shape[:0:-1], 1) if is_picture else tuple(image.shape[1:])
            objects = read_objects(d, shape, is_picture)
            check_counts(objects, self.max_objects, self.max_clicks)
            put_request(image, objects, labels=read_names(d.get("labels")), adapter=d.get("use_adapter"))
        return d


def unpack(inputs: MetaTensor) -> Scene:
    """(1, 3, H, W) or (1, 1, X, Y, Z) with the meta that ``ReadRequestd`` wrote, in a batch or not, -> scene.

    Raises:
        ValueError: more than one image, or no request in the meta.
    """
    if inputs.ndim not in (4, 5) or len(inputs) != 1 or inputs.shape[1] != {4: 3, 5: 1}[inputs.ndim]:
        raise ValueError(f"inputs of shape {tuple(inputs.shape)}: expected one image (1, 3, H, W) or (1, 1, X, Y, Z)")
    meta, asked = inputs.meta, take_request(inputs)
    asked["notes"] = json.loads(single(meta.get("notes", "[]")))
    image = inputs.as_tensor()[0]
    if image.ndim == 3:
        rows, columns = numbers(meta.get("pixel_mm", (0.0, 0.0)))
        return Scene(image[None], (*image.shape[:0:-1], 1), None, (columns, rows, 0.0), 0.0, **asked)
    affine = np.reshape(numbers(meta["affine"]), (4, 4))
    plane = Plane.of(affine, image.shape[1:], single(meta["plane"]))
    voxel = abs(float(np.linalg.det(affine[:3, :3])))
    spacing = plane.spacing(np.linalg.norm(affine[:3, :3], axis=0))
    return Scene(plane.slices(image[0])[:, None], tuple(image.shape[1:]), plane, spacing, voxel, **asked)


def read_names(labels: Any) -> list[str] | None:
    """A name or a list of names, each once; None and empty ones for nothing asked.

    Raises:
        ValueError: something else.
    """
    names = [labels] if isinstance(labels, str) else labels
    if not names:
        return None
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(f"labels is {labels!r}: expected a list of names")
    return list(dict.fromkeys(names))


def read_objects(data: Mapping[Hashable, Any], shape: Sequence[int], is_picture: bool) -> list[ObjectPrompt]:
    """The objects that clicks or boxes are given for; none where there are no such keys.

    Raises:
        ValueError: see :func:`..common.prompts.read_prompts`; a scribble, a lasso or a mask, which this network does
            not take.
    """
    known = (*OBJECT_KEYS, "objects", "label")
    request = {k: v for k, v in data.items() if k in known or is_named_points(v)}
    if not any(v for k, v in request.items() if k != "label"):
        return []
    if is_picture:
        request = lifted(request)
    try:
        prompts = read_prompts(request, shape)
    except ValueError as problem:
        where = " (in a 2D image: [x, y] pixels)" if is_picture else ""
        raise ValueError(f"{problem}{where}") from problem
    for prompt in prompts:
        if prompt.masks:
            raise ValueError(f"{prompt.name}: a scribble, a lasso or a mask was given; expected names, clicks or boxes")
    return prompts


def is_named_points(value: Any) -> bool:
    """Whether a value under a key that we do not know can be a list of clicks."""
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(p, (list, tuple)) and len(p) in (2, 3) and all(map(is_number, p)) for p in value)
    )


def is_number(value: Any) -> bool:
    """Whether it can be a coordinate."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def lifted(value: Any) -> Any:
    """[x, y] as [x, y, 0], and [x, y, x, y] as two of these, at any depth: a 2D image is a volume of one slice."""
    if isinstance(value, Mapping):
        return {k: v if k == "point_labels" else lifted(v) for k, v in value.items()}
    if not isinstance(value, (list, tuple)):
        return value
    if value and all(map(is_number, value)):
        if len(value) == 4:
            return [[*value[:2], 0], [*value[2:], 0]]
        return [*value, 0] if len(value) == 2 else list(value)
    return [lifted(v) for v in value]


def numbers(values: Any) -> list[float]:
    """The numbers of an array as a flat list, whatever collation made of it."""
    return torch.as_tensor(np.asarray(values) if not torch.is_tensor(values) else values).double().flatten().tolist()
