# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What is asked for, carried by the image: the inferer is called with the image alone, by ``monai.bundle`` and servers.

A request is text under ``image.meta["request"]``, because text survives collation, slicing and changes of device.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from monai.data import MetaTensor

from .prompts import ObjectPrompt

KEY = "request"


def put_request(image: MetaTensor, objects: Sequence[ObjectPrompt], **others: Any) -> None:
    """Write a request into the image's meta.

    Args:
        image: whose meta is changed.
        objects: the prompts of each object.
        others: what else is asked for, plain JSON types.
    """
    image.meta[KEY] = json.dumps({"objects": [asdict(o) for o in objects], **others})


def take_request(image: MetaTensor) -> dict[str, Any]:
    """The request that :func:`put_request` wrote, of an image in a batch or not.

    Returns:
        ``objects``, a list of :class:`.prompts.ObjectPrompt`, and all else that was asked for.

    Raises:
        ValueError: the image carries none.
    """
    if KEY not in image.meta:
        raise ValueError("the image carries no request: expected ReadRequestd in the preprocessing")
    request = json.loads(single(image.meta[KEY]))
    request["objects"] = [ObjectPrompt(**{k: _tupled(v) for k, v in o.items()}) for o in request["objects"]]
    return request


def single(text: Any) -> str:
    """A text of a meta; collation makes a list of one of each."""
    return text if isinstance(text, str) else text[0]


def _tupled(value: Any) -> Any:
    return tuple(_tupled(v) for v in value) if isinstance(value, list) else value
