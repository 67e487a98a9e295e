# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The cases of an evaluation: each class of each volume, and which of them are finished already."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ..common.files import check_writable, whole_files
from ..common.weights import describe_weights
from ..volumes import file_version


def list_cases(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A case, ``image``, ``label``, ``value`` and ``class``, for each class of each item of ``check_cases``."""
    return [
        {"image": item["image"], "label": item["label"], "value": value, "class": name}
        for item in items
        for value, name in item["classes"].items()
    ]


def list_absent(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """``image`` and ``class`` of every class that an item names and its label map does not hold."""
    return [
        {"image": item["image"], "class": name}
        for item in items
        for value, name in item["label_names"].items()
        if value not in item["classes"]
    ]


class FinishedCases:
    """The results of an evaluation that is not finished, so that one that was killed goes on where it was.

    A result is stored under a hash of all that it depends on: settings, weights, files and class. The results lie in
    a folder of their own, which all processes of one evaluation share and which goes when the report is written.

    Args:
        output_dir: of the evaluation; made where it does not exist.
        weights: file of the network's weights.
        settings: JSON-able description of how the masks are made and scored.

    Raises:
        ValueError: a folder that cannot be written to.
    """

    def __init__(self, output_dir: str | Path, weights: str | Path, settings: Mapping[str, Any]) -> None:
        self.folder = Path(output_dir).expanduser() / "unfinished"
        self.weights = weights
        self.settings = dict(settings)
        check_writable(self.folder)

    @cached_property
    def about(self) -> dict[str, Any]:
        """The settings and the version of the weights."""
        return {**self.settings, "weights": describe_weights(self.weights)}

    def load(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result of a case, None where there is none yet."""
        file = self._place(case).with_suffix(".json")
        return json.loads(file.read_text()) if file.is_file() else None

    def save(
        self, case: Mapping[str, Any], result: Mapping[str, Any], draw: Callable[[Path], None] | None = None
    ) -> None:
        """Keep a result, and the picture that ``draw`` makes of it."""
        place = self._place(case)
        with whole_files(self.folder) as side:
            if draw is not None:
                draw(side / f"{place.name}.png")
            (side / f"{place.name}.json").write_text(json.dumps(result))

    def preview(self, case: Mapping[str, Any]) -> Path:
        """Where the picture of a case is, if it was drawn."""
        return self._place(case).with_suffix(".png")

    def clear(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _place(self, case: Mapping[str, Any]) -> Path:
        versions = [file_version(Path(case[key])) for key in ("image", "label")]
        content = json.dumps([self.about, versions, case["value"], case["class"]], sort_keys=True)
        return self.folder / hashlib.sha256(content.encode()).hexdigest()[:32]
