# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What a result depends on, as one short text: where it is the same, the result need not be made again."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from sam_bundles.common.reading.files import file_version

from .configuration import Configuration
from .jobs import FILES, Job


class Fingerprints:
    """Of jobs in one run.

    Args:
        configuration: of the bundle.
        settings: options of the run, as JSON text so that each is looked at once.
    """

    def __init__(self, configuration: Configuration, settings: dict) -> None:
        self.settings = settings
        # Weights are hashed once for each set of options, not for each image.
        self.of_options = cache(lambda own: configuration.fingerprint({**settings, **json.loads(own)}))

    def of(self, job: Job) -> str:
        """Of the image and the files of its prompts by size and time of change, the request, the options, the weights.

        Raises:
            ValueError: options that there are not, or weights that are missing.
        """
        files = [job.image, *(job.request[key] for key in FILES if job.request.get(key))]
        versions = [[file, _version(Path(file))] for file in files]
        options = self.of_options(json.dumps(job.settings, sort_keys=True))
        text = json.dumps([options, job.request, versions], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def _version(place: Path) -> list[tuple]:
    # Names, sizes and times of change: a copy on another disk, or mounted elsewhere, is the same image.
    return [(Path(name).name, size, changed) for name, _, _, size, changed, _ in file_version(place)]
