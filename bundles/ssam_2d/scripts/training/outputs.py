# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The files that a training writes into its folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from ..checkpoints import PARTS
from ..common.files import check_writable, whole_files
from ..common.label_names import check_synonyms
from ..common.overlay import Picture, save_overlay
from ..common.svd_affine import Adaptation
from ..view import View
from .adaptation import Tuned, label_features

logger = logging.getLogger(__name__)
THRESHOLD = 0.0


def is_first(engine: Engine) -> bool:
    """Whether this process is the one that writes."""
    return engine.state.rank == 0


class BaseWriter:
    """Handler that writes SAM's three parts of the network after each epoch, as SAM's own checkpoints hold them.

    Args:
        path: of the state dict.
        network: see :class:`..networks.ssam.SSAM`.
    """

    def __init__(self, path: str | Path, network: nn.Module) -> None:
        self.path, self.network = Path(path), network
        check_writable(self.path.parent)

    def attach(self, engine: Engine) -> None:
        """Register for the end of each epoch."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        state = {k: v.detach().cpu() for k, v in self.network.state_dict().items() if k.startswith(PARTS)}
        with whole_files(self.path.parent) as side:
            torch.save(state, side / self.path.name)


class AdapterWriter:
    """Handler that writes, at the end of a training, its best tensors in the forms that others read.

    - ``adapter.safetensors``: what was tuned, bound to its base, with the labels and their text features.
    - ``model.pt``: the whole network with the adapter merged, a plain state dict; its labels' names are in it.
    - ``preview.png``: some validation images with what the network finds in them, the truth as dashed lines.

    Args:
        folder: of the run.
        adaptation: of the network.
        best: the file that BestWeights wrote of :class:`.adaptation.Tuned`.
        validation: items with ``image`` (3, S, S), normalised, and ``label`` (L, S, S); may be empty.
        view: how the network sees them.
        previews: how many of them are shown.
        synonyms: other names of some of the labels, for the adapter.

    Raises:
        ValueError: synonyms of labels that there are not.
    """

    def __init__(
        self,
        folder: str | Path,
        adaptation: Adaptation,
        best: str | Path,
        validation: Sequence[Mapping[str, Any]] = (),
        view: View | None = None,
        previews: int = 8,
        synonyms: Mapping[str, list[str]] | None = None,
    ) -> None:
        self.folder, self.adaptation, self.best = Path(folder), adaptation, Path(best)
        self.validation, self.view, self.previews = validation, view or View(), previews
        self.synonyms = check_synonyms(synonyms or {}, adaptation.module.labels)
        check_writable(self.folder)

    def attach(self, engine: Engine) -> None:
        """Register for the end of the training."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if not is_first(engine):
            return
        network = self.adaptation.module
        Tuned(self.adaptation).load_state_dict(torch.load(self.best, map_location="cpu", weights_only=True))
        self.adaptation.merge()
        labels = label_features(network)
        with whole_files(self.folder) as side:
            self.adaptation.take(labels, self.synonyms).save(side / "adapter.safetensors")
            torch.save({k: v.detach().cpu() for k, v in network.state_dict().items()}, side / "model.pt")
            if len(self.validation) and self.previews:
                self._draw(side / "preview.png", network)
        self.adaptation.unmerge()
        logger.info("%d trained numbers in %s", self.adaptation.count(), self.folder / "adapter.safetensors")

    @torch.no_grad()
    def _draw(self, path: Path, network: nn.Module) -> None:
        network.eval()
        device = next(network.parameters()).device
        shown = np.linspace(0, len(self.validation) - 1, min(self.previews, len(self.validation))).round().astype(int)
        pictures = []
        for item in (self.validation[int(i)] for i in shown):
            logits = network(torch.as_tensor(item["image"])[None].to(device))[0].cpu()
            found, truth = index_map(logits), index_map(item["label"].float() - 0.5)
            picture = self.view.displayed(torch.as_tensor(item["image"]).cpu()).permute(1, 2, 0).clamp(0, 255)
            pictures.append(Picture(picture.numpy(), found.numpy(), truth=truth.numpy()))
        save_overlay(path, pictures, dict(enumerate(network.labels, start=1)))


def index_map(logits: Tensor) -> Tensor:
    """(L, H, W) -> (H, W): the label of the highest logit where that is above zero, 1 for the first; else 0."""
    highest, label = logits.max(0)
    return torch.where(highest > THRESHOLD, label + 1, 0)
