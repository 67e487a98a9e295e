# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A bundle with its weights in this process, which answers one image after the other as ``monai.bundle run`` does."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from PIL import Image
from sam_bundles.common.parsed import parsed_content
from sam_bundles.common.reading.volume import is_volume, read_volume
from sam_bundles.common.result_files import is_result, stem_of
from torch import nn

from .configuration import Configuration
from .prompts import with_prompts


class Bundle:
    """Parts of ``inference.json``, with the weights loaded.

    Args:
        configuration: the bundle's.
        settings: options other than the configuration's.
        networks: those that are loaded, by :meth:`.Configuration.network_key`; this one's is added.

    Raises:
        ValueError: an option out of its range, or weights that do not fit.
    """

    def __init__(
        self,
        configuration: Configuration,
        settings: Mapping[str, Any],
        networks: MutableMapping[str, nn.Module] | None = None,
    ) -> None:
        networks, key = {} if networks is None else networks, configuration.network_key(settings)
        parser = configuration.parser(settings)
        if key in networks:
            parser["network"] = networks[key]
        # The bar of the batch is the one to look at.
        parser["inferer"]["progress"] = False
        parsed_content(parser, "options")
        self.device = parsed_content(parser, "checked_device")
        self.network = parsed_content(parser, "network")
        if key not in networks:
            # A handler of MONAI's engine, which needs none.
            parsed_content(parser, "checkpointloader")(None)
            networks[key] = self.network.eval()
        self.load, *self.read = parsed_content(parser, "preprocessing").transforms
        self.inferer = parsed_content(parser, "inferer")
        self.after = parsed_content(parser, "postprocessing").transforms
        self.writer = next(t for t in self.after if hasattr(t, "write_to"))

    @torch.no_grad()
    def segment(self, item: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Write the results of an image, and return their description.

        Args:
            item: ``image``, its path, its request, and where prompts are taken from, see :mod:`.prompts`.
            folder: of its results alone: what an earlier run left there and this one does not write is removed.

        Raises:
            ValueError: what is wrong with the image or the request.
        """
        before = _versions(folder)
        self.writer.write_to(folder)
        data = self._read(item)
        # MONAI's engine gives a batch of one.
        data["pred"] = self.inferer(data["image"][None].to(self.device), self.network)[0]
        for transform in self.after:
            data = transform(data)
        for file, version in before.items():
            if file.is_file() and _version(file) == version:
                file.unlink()
        return json.loads(_description(Path(data["saved_to"])).read_text())

    def draw(self, item: Mapping[str, Any], mask: Path, path: Path) -> None:
        """Write a picture of a result.

        Args:
            item: as of :meth:`segment`.
            mask: that was written for it.
            path: of the PNG.
        """
        image = self._read(item)["image"]
        labels = read_volume(mask, exact=True).numpy() if is_volume(mask) else np.asarray(Image.open(mask))[None]
        result = json.loads(_description(mask).read_text())
        self.writer.draw(path, image, MetaTensor(torch.from_numpy(labels.astype(np.int32)), meta=image.meta), result)

    def _read(self, item: Mapping[str, Any]) -> dict[str, Any]:
        data = with_prompts(self.load(dict(item)))
        for transform in self.read:
            data = transform(data)
        return data


def _description(mask: Path) -> Path:
    return mask.with_name(f"{stem_of(mask.name)}.json")


def _versions(folder: Path) -> dict[Path, tuple[int, int]]:
    """Results in a folder, and what changes when they are written again."""
    files = [file for file in folder.glob("*") if file.is_file() and not file.name.startswith(".")]
    described = {f for f in files if is_result(f)}
    described |= {
        f for f in files if f.suffix == ".json" and any(stem_of(d.name).startswith(f.stem) for d in described)
    }
    return {file: _version(file) for file in described}


def _version(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_ino, stat.st_mtime_ns
