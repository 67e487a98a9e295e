# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What is segmented in each slice, and what the decoder answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..common.label_names import matched
from ..common.prompts import ObjectPrompt
from ..name_features import name_features
from .scene import Scene

Point = tuple[float, float]


@dataclass
class Target:
    """One label of the index map.

    Attributes:
        name: of the label.
        value: in the index map. A label of the network keeps its place there, whatever else is asked for.
        features: (text_dim,) of its name, None where clicks or boxes alone say what it is.
        everywhere: whether it is looked for by its name in every slice.
        points: by slice: columns and rows, with 1 foreground or 0 background.
        boxes: by slice: column and row of the first pixel inside, then of the last one.
        prompt: as it was given, None for a name alone.
        adapter: which of several knows the name; None for what is in the network.
    """

    name: str
    value: int
    features: Tensor | None = None
    everywhere: bool = False
    points: dict[int, list[tuple[Point, int]]] = field(default_factory=lambda: defaultdict(list))
    boxes: dict[int, tuple[float, float, float, float]] = field(default_factory=dict)
    prompt: ObjectPrompt | None = None
    adapter: str | None = None

    def is_in(self, index: int) -> bool:
        """Whether there is anything to be decoded in a slice; background clicks alone do not say what."""
        clicked = any(label for _, label in self.points.get(index, ()))
        return self.everywhere or clicked or index in self.boxes


@dataclass(frozen=True)
class Vocabulary:
    """The names that are known, each in its place of the index map.

    Attributes:
        labels: the names, (L, text_dim) their features.
        adapters: which adapter knows each of them; empty where the network does.
        synonyms: other names, by label.
    """

    labels: list[str]
    features: Tensor
    adapters: tuple[str, ...] = ()
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, network: nn.Module, synonyms: Mapping[str, Sequence[str]] | None = None) -> Vocabulary:
        """What a network knows, see :class:`..networks.ssam.SSAM`."""
        return cls(list(network.labels), network.label_features.detach(), synonyms=synonyms or {})

    def matched(self, name: str) -> str | None:
        """See :func:`..common.label_names.matched`."""
        return matched(name, self.labels, self.synonyms)


def find_targets(scene: Scene, known: Vocabulary, text_model: str | None = None) -> list[Target]:
    """Every target of a scene, in the order of the values.

    Args:
        scene: see :func:`.request.unpack`.
        known: the labels.
        text_model: for names that are none of the labels, see :func:`..name_features.name_features`.

    Raises:
        ValueError: an unknown name, or nothing to be segmented.
    """
    labels = known.labels
    names = scene.labels if scene.labels is not None else [] if scene.objects else labels
    if not names and not scene.objects:
        raise ValueError("the network has no labels and no click or box was given: expected labels, clicks or boxes")
    features = name_features([known.matched(name) or name for name in names], labels, known.features, text_model)
    targets: dict[str, Target] = {}
    following = len(labels)
    for name, row in [*zip(names, features, strict=True), *((o.name, None) for o in scene.objects)]:
        label = known.matched(name)
        key = label or name
        if key in targets:
            continue
        if label is None:
            following += 1
        value = following if label is None else labels.index(label) + 1
        # Clicks on something that the network knows by its name: both are shown to it.
        own = known.features[value - 1] if row is None and label else row
        adapter = known.adapters[value - 1] if label and known.adapters else None
        targets[key] = Target(key, value, own, everywhere=row is not None, adapter=adapter)
    for prompt in scene.objects:
        add_prompt(targets[known.matched(prompt.name) or prompt.name], prompt, scene)
    return sorted(targets.values(), key=lambda target: target.value)


def add_prompt(target: Target, prompt: ObjectPrompt, scene: Scene) -> None:
    """The clicks and the box of an object, each in the slices where it lies."""
    target.prompt = prompt
    for point, label in zip(prompt.points, prompt.labels, strict=True):
        column, row, index = scene.place(point)
        target.points[min(max(round(index), 0), len(scene.slices) - 1)].append(((column, row), label))
    if prompt.box:
        first, last, edges = scene.box(prompt.box)
        for index in range(first, last + 1):
            target.boxes[index] = edges


def decode(
    network: nn.Module, embedding: Tensor, targets: list[Target], index: int, scale: tuple[float, float]
) -> list[tuple[Tensor, float]]:
    """Logits (h, w) and predicted IoU for each target in one slice; all names in one call of the decoder.

    Args:
        network: see :class:`..networks.ssam.SSAM`.
        embedding: (1, C, h, w) of the slice.
        targets: those that are in the slice.
        index: of the slice.
        scale: pixels of the network's image for one column and one row of the slice.
    """
    answers: dict[int, tuple[Tensor, float]] = {}
    kinds: dict[tuple[bool, bool, bool], list[Target]] = defaultdict(list)
    for target in targets:
        # Rows of one call have the same kinds of tokens.
        kinds[target.features is not None, bool(target.points.get(index)), index in target.boxes].append(target)
    for (named, clicked, boxed), group in kinds.items():
        features = torch.stack([t.features for t in group]).to(embedding.device) if named else None
        points, point_labels = clicks(group, index, scale) if clicked else (None, None)
        boxes = boxes_of(group, index, scale) if boxed else None
        on_device = [v if v is None else v.to(embedding.device) for v in (points, point_labels, boxes)]
        logits, iou = network.decode(embedding, features, *on_device)
        for target, mask, score in zip(group, logits[0].float(), iou[0].float().tolist(), strict=True):
            answers[target.value] = mask, score
    return [answers[target.value] for target in targets]


def clicks(group: list[Target], index: int, scale: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """(K, P, 2) in pixels of the network's image and (K, P); -1 fills up the rows with fewer clicks."""
    most = max(len(target.points[index]) for target in group)
    points, labels = torch.zeros(len(group), most, 2), torch.full((len(group), most), -1)
    for i, target in enumerate(group):
        for j, (point, label) in enumerate(target.points[index]):
            points[i, j], labels[i, j] = torch.tensor(point), label
    return scaled(points, scale), labels


def boxes_of(group: list[Target], index: int, scale: tuple[float, float]) -> Tensor:
    """(K, 4) in pixels of the network's image."""
    return scaled(torch.tensor([target.boxes[index] for target in group]).unflatten(-1, (2, 2)), scale).flatten(-2)


def scaled(points: Tensor, scale: tuple[float, float]) -> Tensor:
    """Centres of pixels of a slice -> the same places in the network's image."""
    return (points + 0.5) * points.new_tensor(scale) - 0.5
