# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""From an image that carries its request to an index map on the same pixels."""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor, nn
from tqdm import tqdm

from ..common.bounded_cache import BoundedCache, digest, tensor_bytes
from ..common.flags import flag
from ..common.weights import weights_key
from ..images import normalise, to_network_size
from .adapters import AdapterBank
from .index_map import IndexMap, summarise
from .prompt_network import PromptNetwork
from .request import unpack
from .scene import Scene
from .targets import Target, decode, find_targets


class NamedInferer(Inferer):
    """Segments what the request in ``image.meta`` names, clicks on or boxes, in an image or in every slice of a volume.

    Each slice is encoded once for all labels; the embeddings of the last slices are kept, so that a further request
    costs the decoder alone.

    Args:
        image_size: pixels a side of what the network is shown; a multiple of its patch.
        threshold: probability above which a pixel belongs to a label.
        probabilities: give those of every label too.
        text_model: encodes names that are none of the labels, see :func:`..name_features.name_features`.
        adapters: to choose from by the request.
        prompt_network: answers clicks and boxes without a name.
        amp: compute in half precision.
        cache_bytes: of the embeddings that are kept.
        progress: show a progress bar over the slices of a volume.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        image_size: int = 256,
        threshold: float = 0.5,
        probabilities: bool = False,
        text_model: str | None = None,
        adapters: AdapterBank | None = None,
        prompt_network: PromptNetwork | None = None,
        amp: bool = False,
        cache_bytes: int = 1 << 28,
        progress: bool = True,
    ) -> None:
        super().__init__()
        if image_size < 1 or not 0 < threshold < 1:
            raise ValueError(f"image_size {image_size}, threshold {threshold}: expected pixels, and a number in (0, 1)")
        self.image_size = image_size
        self.threshold = threshold
        self.probabilities = flag("probabilities", probabilities)
        self.text_model = text_model
        self.adapters = adapters
        self.prompt_network = prompt_network
        self.amp = flag("amp", amp)
        self.cache = BoundedCache(cache_bytes, tensor_bytes)
        self.progress = progress

    @torch.no_grad()
    def __call__(self, inputs: MetaTensor, network: nn.Module, *args: Any, **kwargs: Any) -> MetaTensor:
        """Index map of the labels, on the pixels of the input.

        Args:
            inputs: (1, 3, H, W) or (1, 1, X, Y, Z), see :func:`.request.unpack`.
            network: offers ``encode``, ``decode``, ``labels`` and ``label_features``.

        Returns:
            (1, 1, H, W) or (1, 1, X, Y, Z), uint8 or uint16: 0 background. Its meta holds ``summary``, JSON, and where
            asked for ``probabilities``, (1, K, ...) in the order of the summary's objects.

        Raises:
            ValueError: an unknown name or adapter, or nothing to be segmented.
        """
        scene = unpack(inputs)
        with self._adapted(network, scene.adapter):
            targets = find_targets(scene, network, self.text_model)
            answering = self._answering(targets, network)
            found, used = self._segment(scene, targets, answering)
        labels = scene.as_stored(found.labels[None])
        result = MetaTensor(labels if labels.dtype == torch.uint8 else labels.to(torch.uint16), meta=dict(inputs.meta))
        summary = {**summarise(scene, targets, found), **used, "adapter": scene.adapter}
        other = any(one is not network for one, _ in answering)
        summary["prompt_weights"] = self.prompt_network.described if other else None
        result = result[None]
        result.is_batch = inputs.is_batch
        # A collated batch is taken apart again later: whatever lies in its meta needs a place for the batch.
        result.meta["summary"] = [json.dumps(summary)] if inputs.is_batch else json.dumps(summary)
        if found.all is not None:
            every = scene.as_stored(found.all).cpu()
            result.meta["probabilities"] = every[None] if inputs.is_batch else every
        return result

    def _adapted(self, network: nn.Module, choice: Any) -> AbstractContextManager:
        if self.adapters:
            return self.adapters.using(network, choice)
        if choice:
            raise ValueError(f"use_adapter {choice!r}, but none was loaded: give adapter, a path or {{name: path}}")
        return nullcontext()

    def _answering(self, targets: list[Target], network: nn.Module) -> list[tuple[nn.Module, list[Target]]]:
        """Each network that is needed, with what it is asked for."""
        other = network
        if self.prompt_network and any(target.features is None for target in targets):
            other = self.prompt_network.of(network)
        if other is network:
            return [(network, targets)]
        named, unnamed = ([t for t in targets if (t.features is None) is without] for without in (False, True))
        return [(one, asked) for one, asked in ((network, named), (other, unnamed)) if asked]

    def _segment(
        self, scene: Scene, targets: list[Target], answering: list[tuple[nn.Module, list[Target]]]
    ) -> tuple[IndexMap, dict[str, Any]]:
        """The index map, and the time and what was computed or known for it."""
        found = IndexMap.empty(scene, targets, self.threshold, self.probabilities)
        keyed = [(network, weights_key(network), asked) for network, asked in answering]
        places = {target.value: place for place, target in enumerate(targets)}
        seconds = {"encode": 0.0, "decode": 0.0}
        needed, reused, device = 0, 0, scene.slices.device
        rows, columns = scene.shape
        scale = self.image_size / columns, self.image_size / rows
        indices = [i for i in range(len(scene.slices)) if any(t.is_in(i) for t in targets)]
        bar = tqdm(indices, desc="slices", unit="slice", disable=not self.progress or len(indices) < 2, leave=False)
        for index in bar:
            for network, weights, asked in keyed:
                here = [target for target in asked if target.is_in(index)]
                if not here:
                    continue
                start = now(device)
                with torch.autocast(device.type, enabled=self.amp):
                    embedding, known = self._embed(scene.picture(index), weights, network)
                    encoded, needed, reused = now(device), needed + 1, reused + known
                    answers = decode(network, embedding, here, index, scale)
                for target, answer in zip(here, answers, strict=True):
                    found.add(index, target, places[target.value], *answer)
                seconds["encode"] += encoded - start
                seconds["decode"] += now(device) - encoded
        return found, {
            "embeddings": {"computed": needed - reused, "reused": reused},
            "seconds": {k: round(v, 4) for k, v in seconds.items()},
        }

    def _embed(self, picture: Tensor, weights: tuple, network: nn.Module) -> tuple[Tensor, bool]:
        square = normalise(to_network_size(picture, self.image_size))[None]
        return self.cache.get((digest(square), weights, self.amp), None, lambda: network.encode(square))


def now(device: torch.device) -> float:
    """The time in seconds, once all work on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
