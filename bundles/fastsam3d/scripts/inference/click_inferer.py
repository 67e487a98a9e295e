# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The engine as a MONAI inferer: from a volume that carries its request to a label map on the same grid."""

from __future__ import annotations

import json
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import nn

from ..common.flags import flag
from .request import unpack
from .segment import Segmentation, Segmenter


class ClickInferer(Inferer):
    """Segments every object that the request in ``image.meta`` names.

    Args:
        progress: show a progress bar.
        probabilities: give those of every object too.
        settings: of the engine, see :class:`.segment.Segmenter`.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self, *settings: Any, progress: bool | str = True, probabilities: bool | str = False, **named_settings: Any
    ) -> None:
        super().__init__()
        self.segmenter = Segmenter(*settings, **named_settings)
        self.progress = flag("progress", progress)
        self.probabilities = flag("probabilities", probabilities)

    def __call__(self, inputs: MetaTensor, network: nn.Module, *args: Any, **kwargs: Any) -> MetaTensor:
        """Label map of the objects, on the grid of the input.

        Args:
            inputs: (1, 1, X, Y, Z) that carries its request, see :class:`.request.ReadRequestd`.
            network: offers ``encode`` and ``decode``, see :class:`..networks.fastsam3d.FastSAM3D`.

        Returns:
            (1, 1, X, Y, Z) uint8 or uint16: 0 background, then the objects in the order of the prompts. Its meta
            holds ``summary``, the JSON of :class:`.segment.Segmentation`, and where asked for ``probabilities``,
            (1, K, X, Y, Z) float32 in the order of the prompts.

        Raises:
            ValueError: no request in the meta, more than one image, a scribble without foreground.
        """
        found = self.segmenter.segment_scene(unpack(inputs), network, self.progress)
        result = MetaTensor(found.labels[None, None], meta=dict(inputs.meta))
        result.is_batch = inputs.is_batch
        # A collated batch is taken apart again later: whatever lies in its meta needs a place for the batch.
        text = json.dumps(found.summary)
        result.meta["summary"] = [text] if inputs.is_batch else text
        if self.probabilities:
            every = torch.stack([found.probabilities(i) for i in range(len(found.views))])
            result.meta["probabilities"] = every[None] if inputs.is_batch else every
        return result

    def segment(self, *args: Any, **kwargs: Any) -> Segmentation:
        """See :meth:`.segment.Segmenter.segment`."""
        return self.segmenter.segment(*args, **kwargs)
