# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The summary of a result, stored where clients read it."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import MapTransform


class Summarised(MapTransform):
    """Moves the summary from ``pred.meta`` to ``data["result"]``, which servers send to their clients."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d["result"] = {**(d.get("result") or {}), **json.loads(d[key].meta["summary"])}
        return d
