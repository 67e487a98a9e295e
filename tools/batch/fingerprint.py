# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What a result depends on, as one short text: where it is the same, the result need not be made again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from sam_bundles.common.reading.files import file_version

from .configuration import Configurations
from .jobs import FILES, Job


class Fingerprints:
    """Of jobs in one run.

    Args:
        configurations: of its bundles.
    """

    def __init__(self, configurations: Configurations) -> None:
        self.configurations = configurations
        # Weights are hashed once for each set of options, not for each image.
        self._options: dict[str, str] = {}

    def of(self, job: Job) -> str:
        """Of the image and the files of its prompts by size and time of change, the request, the options, the weights.

        Raises:
            ValueError: options that there are not, or weights that are missing.
        """
        files = [job.image, *(job.request[key] for key in FILES if job.request.get(key))]
        versions = [[file, _version(Path(file))] for file in files]
        text = json.dumps([self._of_options(job), job.request, versions], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _of_options(self, job: Job) -> str:
        key = json.dumps([job.bundle, job.settings], sort_keys=True, default=str)
        if key not in self._options:
            configuration, settings = self.configurations.of(job)
            self._options[key] = configuration.fingerprint(settings)
        return self._options[key]


def _version(place: Path) -> list[tuple]:
    # Names, sizes and times of change: a copy on another disk, or mounted elsewhere, is the same image.
    return [(Path(name).name, size, changed) for name, _, _, size, changed, _ in file_version(place)]
