# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""From requests to an image that carries its request, as monai.bundle and MONAI Label both send it on."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..common.planes import Plane
from ..common.prompts import OBJECT_KEYS, read_prompts, to_json
from ..common.reading.options import MAX_PIXELS, MAX_VOXELS, Reading
from ..image_files import is_volume, read_slices
from ..images import LoadImage2Dd, to_display


class LoadSlicesd(LoadImage2Dd):
    """Reads a 2D image as :class:`..images.LoadImage2Dd` does, and a volume for being taken slice by slice.

    A volume becomes (1, X, Y, Z), float32, 0 to 255 by one window for all slices, on its stored grid. Its meta holds
    ``affine``, ``spatial_shape``, ``filename_or_obj`` and ``plane``, the name of the plane of the slices.

    Args:
        keys: of the paths.
        window: see :class:`..images.LoadImage2Dd`.
        slice_axis: see :meth:`..common.planes.Plane.of`.
        max_pixels: see :class:`..images.LoadImage2Dd`.
        max_voxels: the same of a volume.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        window: str | Sequence[float] = "auto",
        slice_axis: str | int = "auto",
        max_pixels: int = MAX_PIXELS,
        max_voxels: int = MAX_VOXELS,
    ) -> None:
        super().__init__(keys, window, max_pixels)
        self.slice_axis = slice_axis
        self.reading = Reading(max_voxels=max_voxels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._read_volume(str(d[key])) if is_volume(d[key]) else self.read_image(str(d[key]))
        return d

    def _read_volume(self, path: str) -> MetaTensor:
        volume = read_slices(path, self.reading)
        affine = np.asarray(volume.affine, dtype=np.float64)
        # Refuses another name before anything is computed.
        Plane.of(affine, volume.shape[1:], self.slice_axis)
        try:
            shown = to_display(volume.as_tensor(), self.window)
        except ValueError as problem:
            raise ValueError(f"{path}: {problem}") from problem
        meta = {
            "filename_or_obj": path,
            "spatial_shape": np.array(volume.shape[1:]),
            "original_affine": affine,
            "plane": str(self.slice_axis),
            "notes": json.dumps(volume.meta["notes"]),
        }
        return MetaTensor(shown, affine=affine, meta=meta)


class ReadRequestd(MapTransform):
    """Checks what is asked for and puts it into ``image.meta["request"]``, JSON with these keys:

    - ``labels``: a list of names; None for all labels, or where there are clicks or boxes for none.
    - ``objects``: clicks and boxes by the name of the object, as :func:`..common.prompts.to_json` writes them.
    - ``adapter``: the adapter to use, or {name: weight}; it is asked for as ``use_adapter``.

    Clicks and boxes come as ``foreground`` / ``background``, ``points`` + ``point_labels``, ``box``, ``{name: points}``
    or ``objects``: in a 2D image [x, y] pixels (a third index has to be 0), in a volume [i, j, k] voxels as stored.

    The inferer is called with the image alone, by ``monai.bundle`` as by MONAI Label: the request travels with it.

    Raises:
        ValueError: a request of another form, or a prompt outside the image.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            image = d[key]
            is_picture = image.ndim == 3
            shape = (*image.shape[:0:-1], 1) if is_picture else tuple(image.shape[1:])
            request = {
                "labels": read_names(d.get("labels")),
                "objects": json.loads(to_json(read_objects(d, shape, is_picture))),
                "adapter": d.get("use_adapter"),
            }
            image.meta["request"] = json.dumps(request)
        return d


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


def read_objects(data: Mapping[Hashable, Any], shape: Sequence[int], is_picture: bool) -> list:
    """The objects that clicks or boxes are given for; none where there are no such keys.

    Raises:
        ValueError: see :func:`..common.prompts.read_prompts`; a scribble or a mask, which this network does not take.
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
        if prompt.scribble or prompt.previous_mask:
            raise ValueError(f"{prompt.name}: a scribble or a mask was given; expected names, clicks or boxes")
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
