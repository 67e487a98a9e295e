# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Network, weights and engine as ``inference.json`` makes them, for any number of sessions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from monai.bundle import ConfigParser
from torch import nn

from ..common.config_names import in_package
from ..common.parsed import parsed_content
from ..common.reading.options import Reading
from ..common.weights import load_weights
from ..inference.segment import Segmenter

BUNDLE_ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = __package__.removesuffix(".session")


@dataclass(frozen=True)
class Engine:
    """What answers prompts. Safe among threads.

    Attributes:
        network: on its device, with its weights.
        segmenter: see :class:`..inference.segment.Segmenter`.
        reading: how files are read.
        max_objects, max_clicks: of a session, and of each of its objects.
        weights, version: file of the weights, and of the bundle, for descriptions of results.
    """

    network: nn.Module
    segmenter: Segmenter
    reading: Reading = Reading()
    max_objects: int = 100
    max_clicks: int = 1000
    weights: str | None = None
    version: str | None = None

    @classmethod
    def load(cls, bundle_root: str | Path | None = None, **options: Any) -> Engine:
        """As ``python -m monai.bundle run`` sets it up.

        Args:
            bundle_root: of another copy of the bundle's configurations and weights; None for this one's.
            options: of ``inference.json``, such as ``ckpt_path``, ``device`` or ``cube_size``.

        Raises:
            ValueError: an unknown option, one out of its range, or weights that do not fit.
        """
        root = Path(bundle_root) if bundle_root is not None else BUNDLE_ROOT
        file = root / "configs" / "inference.json"
        if not file.is_file():
            raise ValueError(f"{file}: no such file; expected the folder of the bundle fastsam3d as bundle_root")
        config = in_package(ConfigParser.load_config_file(str(file)), SCRIPTS)
        # ``debug``, because a session leaves the errors of whoever uses it alone.
        parser = ConfigParser({**config, "bundle_root": str(root), "debug": True, **options})
        checked = parsed_content(parser, "options")
        network = parsed_content(parser, "network")
        load_weights(network, checked.ckpt_path)
        return cls(
            network.eval(),
            parsed_content(parser, "inferer").segmenter,
            parsed_content(parser, "reading"),
            checked.max_objects,
            checked.max_clicks,
            str(checked.ckpt_path),
            parsed_content(parser, "metadata")["version"],
        )


_default: list[Engine] = []
_lock = Lock()


def default_engine() -> Engine:
    """One for the whole process, loaded when it is first needed."""
    with _lock:
        if not _default:
            _default.append(Engine.load())
        return _default[0]
