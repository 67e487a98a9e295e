# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Both bundles run in one process by their own configurations, with the shipped weights."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from kinds_headers import nrrd_encodings
from kinds_pictures import modes
from odd_input import Draw, OddInput
from verdicts import ROOT
from workflows import run_configs

from tools.bundle_workflow import started
from tools.prepare_data.__main__ import main as prepare_data


class Bundles:
    """``run(odd, out)`` takes one odd input to its end, or raises what the program raises."""

    def __init__(self) -> None:
        self.modules: dict[str, dict[str, ModuleType]] = {}

    def warm(self, folder: Path) -> None:
        """Everything imported, so that forks of this process need not do it again."""
        draw = Draw(np.random.default_rng(0), folder)
        self.run(nrrd_encodings(draw), folder / "out3d")
        self.run(modes(draw), folder / "out2d")

    def run(self, odd: OddInput, out: Path) -> None:
        """See :class:`OddInput` for what ``odd.run`` may be."""
        if odd.run == "prepare":
            _prepare(odd.options["arguments"])
            return
        name = "ssam_2d" if odd.run == "train" else odd.run
        with self._scripts_of(name):
            if odd.run == "train":
                _read_training_data(out, odd.options)
            else:
                run_configs(ROOT / "bundles" / name, ["inference.json"], **{"output_dir": str(out), **odd.options})

    @contextlib.contextmanager
    def _scripts_of(self, name: str) -> Iterator[None]:
        """Bundles all call their code ``scripts``: each finds its own."""
        path, before = list(sys.path), _scripts()
        for module in before:
            del sys.modules[module]
        sys.modules.update(self.modules.get(name, {}))
        sys.path.insert(1, str(ROOT / "bundles" / name))
        try:
            yield
        finally:
            self.modules[name] = _scripts()
            for module in self.modules[name]:
                del sys.modules[module]
            sys.modules.update(before)
            sys.path[:] = path


def _scripts() -> dict[str, ModuleType]:
    return {n: m for n, m in sys.modules.items() if n == "scripts" or n.startswith("scripts.")}


def _read_training_data(out: Path, options: dict[str, Any]) -> None:
    """All that training does before its first step; what it would see of each mask goes into ``pixels.json``."""
    bundle = ROOT / "bundles" / "ssam_2d"
    settings = {"output_dir": str(out), "device": "cpu", "progress": False, "max_epochs": 1, "validation_share": 0.0}
    workflow = started(bundle, ["train.json"], **{**settings, **options})
    # Each step of "run" but the training itself.
    steps = [step for step in workflow.parser["run"] if "trainer.run" not in step]
    workflow.parser["run"] = steps
    workflow.run()
    workflow.parser.get_parsed_content("train#trainer")
    labels = workflow.parser.get_parsed_content("label_names")
    load = workflow.parser.get_parsed_content("train#preprocessing").transforms[:2]
    pixels = {}
    for item in workflow.parser.get_parsed_content("train#dataset#data"):
        data = dict(item)
        for transform in load:
            data = transform(data)
        pixels[Path(item["image"]).name] = {n: int((m > 0).sum()) for n, m in zip(labels, data["label"], strict=True)}
    out.mkdir(parents=True, exist_ok=True)
    (out / "pixels.json").write_text(json.dumps(pixels))


def _prepare(arguments: list[str]) -> None:
    words = io.StringIO()
    with contextlib.redirect_stderr(words):
        code = prepare_data(arguments)
    if code:
        raise ValueError(words.getvalue().strip())
