# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""From an image that carries its request to an index map on the same pixels."""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor, nn
from tqdm import tqdm

from ..common.bounded_cache import BoundedCache, digest, tensor_bytes
from ..common.flags import flag
from ..common.weights import weights_key
from ..view import View
from .adapters import AdapterBank
from .index_map import IndexMap, summarise
from .prompt_network import PromptNetwork
from .request import unpack
from .scene import Scene
from .targets import Target, Vocabulary, decode, find_targets


class NamedInferer(Inferer):
    """Segments what the request in ``image.meta`` names, clicks on or boxes, in an image or in every slice of a volume.

    Each slice is encoded once for all labels; the embeddings of the last slices are kept, so that a further request
    costs the decoder alone.

    Args:
        view: how the network sees a picture; its size is a multiple of the network's patch.
        threshold: probability above which a pixel belongs to a label.
        probabilities: give those of every label too.
        text_model: encodes names that are none of the labels, see :func:`..name_features.name_features`.
        adapters: to choose from by the request.
        prompt_network: answers clicks without a name, and boxes where ``box_network`` does not.
        box_network: answers boxes without a name.
        amp: compute in half precision.
        cache_bytes: of the embeddings that are kept.
        progress: show a progress bar over the slices of a volume.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        view: View | None = None,
        threshold: float = 0.5,
        probabilities: bool = False,
        text_model: str | None = None,
        adapters: AdapterBank | None = None,
        prompt_network: PromptNetwork | None = None,
        box_network: PromptNetwork | None = None,
        amp: bool = False,
        cache_bytes: int = 1 << 28,
        progress: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < threshold < 1:
            raise ValueError(f"threshold {threshold}: expected a number in (0, 1)")
        self.view = view or View()
        self.threshold = threshold
        self.probabilities = flag("probabilities", probabilities)
        self.text_model = text_model
        self.adapters = adapters
        self.prompt_network, self.box_network = prompt_network, box_network
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
        if self.adapters and self.adapters.by_name(scene.adapter, scene.labels):
            prompted = [prompt.name for prompt in scene.objects]
            known, chosen = self.adapters.vocabulary(scene.labels, prompted), nullcontext()
        else:
            known, chosen = None, self._adapted(network, scene.adapter)
        with chosen:
            targets = find_targets(scene, known or self._known(network, scene.adapter), self.text_model)
            answering = self._answering(targets, network)
            found, used = self._segment(scene, targets, answering)
        labels = scene.as_stored(found.labels[None])
        result = MetaTensor(labels if labels.dtype == torch.uint8 else labels.to(torch.uint16), meta=dict(inputs.meta))
        summary = {**summarise(scene, targets, found), **used, "adapter": scene.adapter}
        summary["notes"] += self._notes(answering)
        answered = {target.value: one.described for one in answering for target in one.targets}
        for described in summary["objects"]:
            if "prompts" in described:
                described["prompts"]["weights"] = answered[described["label"]]
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

    def _known(self, network: nn.Module, choice: Any) -> Vocabulary:
        return Vocabulary.of(network, self.adapters.chosen(choice).synonyms if self.adapters else None)

    def _answering(self, targets: list[Target], network: nn.Module) -> list[Answering]:
        """Each network that is needed, with what it is asked for."""
        asked: dict[tuple[PromptNetwork | None, str | None], list[Target]] = {}
        for target in targets:
            others = [self.prompt_network] if target.features is None else []
            if others and target.boxes:
                others.insert(0, self.box_network)
            other = next((one for one in others if one and one.of(network) is not network), None)
            asked.setdefault((other, target.adapter), []).append(target)
        return [
            Answering(other.of(network), other.view, wanted, other.described)
            if other
            else Answering(network, self.view, wanted, adapter=adapter)
            for (other, adapter), wanted in asked.items()
        ]

    def _segment(
        self, scene: Scene, targets: list[Target], answering: list[Answering]
    ) -> tuple[IndexMap, dict[str, Any]]:
        """The index map, and the time and what was computed or known for it."""
        found = IndexMap.empty(scene, targets, self.threshold, self.probabilities)
        places = {target.value: place for place, target in enumerate(targets)}
        seconds = {"encode": 0.0, "decode": 0.0}
        needed, reused, device = 0, 0, scene.slices.device
        for one in answering:
            indices = [i for i in range(len(scene.slices)) if any(target.is_in(i) for target in one.targets)]
            bar = tqdm(indices, desc="slices", unit="slice", disable=not self.progress or len(indices) < 2, leave=False)
            with self._adapted(one.network, one.adapter) if one.adapter else nullcontext():
                key = weights_key(one.network)
                for index in bar:
                    here = [target for target in one.targets if target.is_in(index)]
                    start = now(device)
                    with torch.autocast(device.type, enabled=self.amp):
                        embedding, known = self._embed(one, scene.picture(index), key)
                        encoded, needed, reused = now(device), needed + 1, reused + known
                        answers = decode(one.network, embedding, here, index, one.view.scale(scene.shape))
                    for target, (logits, iou) in zip(here, answers, strict=True):
                        on_pixels = one.view.back(logits[None, None], scene.shape)[0, 0]
                        found.add(index, target, places[target.value], on_pixels, iou)
                    seconds["encode"] += encoded - start
                    seconds["decode"] += now(device) - encoded
        return found, {
            "embeddings": {"computed": needed - reused, "reused": reused},
            "seconds": {k: round(v, 4) for k, v in seconds.items()},
        }

    def _embed(self, one: Answering, picture: Tensor, key: tuple) -> tuple[Tensor, bool]:
        square = one.view(picture)[None]
        return self.cache.get((digest(square), key, self.amp), None, lambda: one.network.encode(square))

    def _notes(self, answering: list[Answering]) -> list[str]:
        """What the user may not expect of who answered."""
        boxed = any(target.boxes and target.features is None for one in answering for target in one.targets)
        return [self.box_network.missing] if boxed and self.box_network is not None and self.box_network.missing else []


@dataclass
class Answering:
    """A network, how it sees, what it is asked for, its file where that is not the run's own weights, its adapter."""

    network: nn.Module
    view: View
    targets: list[Target]
    described: dict[str, str] | None = None
    adapter: str | None = None


def now(device: torch.device) -> float:
    """The time in seconds, once all work on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
