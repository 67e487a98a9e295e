# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The weights of a run become the weights of the bundle."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

from ignite.engine import Engine, Events
from torch import distributed as dist

from ..files import whole_file

logger = logging.getLogger(__name__)


class PublishWeights:
    """Handler for the trainer: at the end of a run inside the bundle its best weights become ``models/model.pt``.

    A server that trains (MONAI Label) names no output_dir, so the run lies in the bundle's folder ``runs``, and the
    server loads ``models/model.pt`` anew when it changes. The earlier weights stay beside it, as
    ``model_YYYYmmdd_HHMMSS.pt``. A run elsewhere publishes nothing. Attach it last.

    Args:
        source: the run's best weights.
        bundle_root: of the bundle.
    """

    def __init__(self, source: str | Path, bundle_root: str | Path) -> None:
        self.source = Path(source)
        self.bundle = Path(bundle_root)

    def attach(self, engine: Engine) -> None:
        """Register for the end of the training."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        inside = (self.bundle / "runs").resolve() in self.source.resolve().parents
        first = not dist.is_available() or not dist.is_initialized() or dist.get_rank() == 0
        if not inside or not first:
            return
        if not self.source.is_file():
            logger.warning("%s: the run left no weights, the bundle keeps its own", self.source)
            return
        target = self.bundle / "models" / "model.pt"
        if target.exists():
            kept = _unused(target.with_name(time.strftime("model_%Y%m%d_%H%M%S.pt")))
            shutil.copy2(target, kept)
        _replace(self.source, target)
        logger.info("%s published as %s, the earlier weights are kept beside it", self.source, target)


def _replace(source: Path, target: Path) -> None:
    """Copied beside it and renamed: whoever reads ``target`` meanwhile finds one of the two, whole."""
    with whole_file(target) as side:
        shutil.copyfile(source, side)


def _unused(path: Path) -> Path:
    """``path``, or with a number where there is such a file already."""
    candidate, count = path, 1
    while candidate.exists():
        count += 1
        candidate = path.with_name(f"{path.stem}_{count}.pt")
    return candidate
