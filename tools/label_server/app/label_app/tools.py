# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""One bundle served as several tools of a viewer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monailabel.interfaces.tasks.infer_v2 import InferType

from .served_bundle import ServedBundle

# What the bundle calls its one label.
DEFAULT_NAME = "object"


class ClickTool(ServedBundle):
    """A served bundle of clicks under one of the types that tell a viewer what to send.

    All tools made of one task share its network, configuration and caches: an object clicked with one tool is corrected
    with another at once.

    Args:
        task: the bundle as the stock app serves it.
        type: ``deepgrow`` for clicks of one object, ``deepedit`` for {label: points}, ``scribbles`` for an uploaded
            label map with strokes.
    """

    def __init__(self, task: ServedBundle, type: str) -> None:
        self.__dict__.update(vars(task))
        self.type = type
        if type == InferType.DEEPEDIT:
            self.labels = {"background": 0, **task.labels}

    def pre_transforms(self, data: dict[str, Any] | None = None) -> Sequence[Callable]:
        """The bundle's, and for label names a look at the names before anything is computed."""
        more = [KnownNames(self.labels)] if self.type == InferType.DEEPEDIT else []
        return [*super().pre_transforms(data), *more]

    def post_transforms(self, data: dict[str, Any] | None = None) -> Sequence[Callable]:
        """The bundle's, for label names the values that the model's labels have, and a mask that is written fast."""
        more = [ValuesOfLabels(self.labels)] if self.type == InferType.DEEPEDIT else []
        return [*super().post_transforms(data), *more, as_file_order]


class KnownNames:
    """Refuses clicks for names that are none of the labels, where the server was given labels."""

    def __init__(self, labels: dict[str, int]) -> None:
        self.known = [name for name in labels if name != "background"]

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        names = [asked["name"] for asked in json.loads(data["image"].meta["request"])["objects"]]
        unknown = [name for name in names if name.lower() not in self.known]
        if unknown and self.known != [DEFAULT_NAME]:
            raise ValueError(
                f"unknown label {', '.join(map(repr, unknown))}: the server was started with "
                f"{', '.join(self.known)}; expected one of these, or the server's --labels"
            )
        return data


class ValuesOfLabels:
    """Gives the objects of a label map the values of the model's labels.

    The bundle numbers objects as they come in the request, and a viewer that knows the labels takes the number for that
    of a label. Without labels of the server's own any name will do, and nothing changes.
    """

    def __init__(self, labels: dict[str, int]) -> None:
        self.labels = labels

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        objects = data["result"]["objects"]
        values = [self.labels.get(o["name"].lower()) for o in objects]
        if None in values or values == [o["label"] for o in objects]:
            return data
        table = np.zeros(max(o["label"] for o in objects) + 1, dtype=np.uint8)
        for found, value in zip(objects, values, strict=True):
            table[found["label"]] = value
            found["label"] = value
        mask = data["pred"]
        mask.set_array(mask.new_tensor(table[mask.cpu().numpy()]).as_tensor())
        return data


def as_file_order(data: dict[str, Any]) -> dict[str, Any]:
    """The mask as an array with the first axis innermost, which is how the bundle laid it out and files want it.

    MONAI Label's writer takes a tensor as an array in the other order first, and then back: 0.6 s for 512x512x200.
    """
    mask = data["pred"]
    return {**data, "pred": (mask.as_tensor() if isinstance(mask, MetaTensor) else mask).cpu().numpy()}
