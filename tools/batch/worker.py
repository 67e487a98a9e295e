# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What a worker does, wherever it runs: it loads the bundle once, and then does one job after the other."""

from __future__ import annotations

import json
import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MASKS = "masks"
# Jobs with options of their own have parts of their own; only some options ask for other weights. So many are kept.
BUNDLES, NETWORKS = 8, 2


@dataclass(frozen=True)
class Setup:
    """What all workers of a run have in common.

    Attributes:
        bundle: folder of the one of jobs that name no other.
        settings: options of the run.
        output: folder of the run.
        run: its number.
        threads: of each worker. With another number sums have another order, and a mask may differ in a voxel.
    """

    bundle: str
    settings: dict[str, Any]
    output: str
    run: int
    threads: int = 1


class Worker:
    """One of a run.

    Args:
        setup: of the run.
        name: of this worker, which no other has.

    Raises:
        ValueError: an option out of its range, or weights that do not fit.
    """

    def __init__(self, setup: Setup, name: str) -> None:
        # Read when libraries are imported.
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[variable] = str(setup.threads)
        import torch

        from .configuration import Configurations
        from .journal import Journal

        torch.set_num_threads(setup.threads)
        self.setup, self.name = setup, name
        self.configurations = Configurations(setup.bundle, setup.settings)
        self.journal = Journal(Path(setup.output))
        self.bundles: OrderedDict[str, Any] = OrderedDict()
        self.networks: dict[str, Any] = {}
        # Now, so that what is wrong with the weights is no image's fault.
        self._bundle({"bundle": setup.bundle, "settings": {}})

    def do(self, job: Mapping[str, Any], fingerprint: str, tries: int = 1) -> dict[str, Any]:
        """The job's row for the table of results, which is in this worker's journal when this returns.

        Args:
            job: see :meth:`.jobs.Job.plain`.
            fingerprint: of what the result depends on.
            tries: how often it was begun, this time included.
        """
        start = time.perf_counter()
        folder = Path(self.setup.output) / MASKS / job["name"]
        try:
            item = {"image": job["image"], **job["request"]}
            described = self._bundle(job).segment(item, folder)
            told = {"status": "done", **summary(described, folder)}
        except Exception as error:  # noqa: BLE001 - a failed image is a row, whatever it raised
            told = {"status": "failed", "reason": reason(error)}
        row = {
            "name": job["name"],
            "image": job["image"],
            "kept": job["kept"],
            **told,
            "seconds": round(time.perf_counter() - start, 3),
            "worker": self.name,
            "tries": tries,
            "run": self.setup.run,
            "finished": time.time(),
            "fingerprint": fingerprint,
        }
        self.journal.append(self.name, row)
        return row

    def _bundle(self, job: Mapping[str, Any]) -> Any:
        from .bundle import Bundle

        key = json.dumps([job["bundle"], job["settings"]], sort_keys=True, default=str)
        if key not in self.bundles:
            while len(self.bundles) >= BUNDLES:
                self.bundles.popitem(last=False)
            if len(self.networks) > NETWORKS:
                self.bundles.clear()
                self.networks.clear()
            self.bundles[key] = Bundle(*self.configurations.of(job), self.networks)
        self.bundles.move_to_end(key)
        return self.bundles[key]


def summary(described: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What the table says of a result: its files, its objects with every number that is known of them, its warnings."""
    objects = [{"name": one["name"], **_numbers(one)} for one in described["objects"]]
    sure = [o["predicted_iou"] for o in objects if o.get("predicted_iou") is not None]
    notes = [f"{one['name']}: {note}" for one in described["objects"] for note in one.get("notes", [])]
    return {
        "mask": described["mask"],
        "files": sorted(f.name for f in folder.iterdir() if f.is_file() and not f.name.startswith(".")),
        "objects": objects,
        # Of the object that its weights are least sure of.
        "uncertainty": round(1 - min(sure), 4) if sure else None,
        "warnings": [*described.get("notes", []), *notes],
    }


def reason(error: BaseException) -> str:
    """Why an image failed, for the table."""
    from sam_bundles.common.last_sentence import REPORT, sentence

    return sentence(error) or f"{type(error).__name__}: {error} ({REPORT})"


def _numbers(described: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every number of an object's description, and their units, those of its parts under names with a dot."""
    numbers: dict[str, Any] = {}
    for key, value in described.items():
        if isinstance(value, Mapping) and key != "prompts":
            numbers |= _numbers(value, f"{prefix}{key}.")
        elif value is None or key == "unit" or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            numbers[f"{prefix}{key}"] = value
    return numbers
