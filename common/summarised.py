# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The summary of a result, where clients look for it."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import MapTransform


class Summarised(MapTransform):
    """Turns the summary that the inferer left in ``pred.meta`` into ``data["result"]``, which clients receive."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d["result"] = {**(d.get("result") or {}), **json.loads(d[key].meta["summary"])}
        return d
