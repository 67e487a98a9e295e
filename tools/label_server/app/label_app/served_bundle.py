# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A bundle with the weights in ``models/model.pt``, and no others."""

from __future__ import annotations

from typing import Any

from monailabel.tasks.infer.bundle import BundleInferTask

WEIGHTS = "model.pt"


class ServedBundle(BundleInferTask):
    """MONAI Label's task for a bundle, that loads what the command line loads, and all of it.

    MONAI Label takes the first of all ``models/*.pt``, or the one that a request names, and goes on with random numbers
    for what is not in it.

    Raises:
        ValueError: weights that do not fit the configuration's network: the server does not start with them.
    """

    def __init__(self, path: str, conf: dict[str, str], **more: Any) -> None:
        super().__init__(path, conf, load_strict=True, **more)
        self._config["model_filename"] = [WEIGHTS]
        self._get_network("cpu", None)
        self.clear_cache()

    def _get_network(self, device: str, data: dict[str, Any] | None) -> Any:
        try:
            return super()._get_network(device, {**(data or {}), "model_filename": WEIGHTS})
        except RuntimeError as error:
            if "loading state_dict" not in str(error):
                raise
            reasons = " ".join(line.strip() for line in str(error).splitlines()[1:3])
            raise ValueError(
                f"{self.get_path()}: weights of another architecture ({reasons[:300]}); expected those of network_def: "
                f"--fresh-weights takes the project's again"
            ) from error
