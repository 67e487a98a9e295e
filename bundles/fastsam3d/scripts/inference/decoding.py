# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The prompts of objects in one cube, given to the decoder click by click."""

from __future__ import annotations

import hashlib
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..common.bounded_cache import tensor_bytes
from ..networks.drawing import LARGEST_LOGIT
from ..networks.prompt_encoder import FOREGROUND
from .growth import corrected_at, grown_around
from .honoured import contradicted


class Answer(NamedTuple):
    """What the decoder said of an object.

    Attributes:
        logits: (1, 4d, 4h, 4w), None before it was asked.
        score: predicted IoU, None before it was asked.
        used: the points that it was shown, by their place among the prompt's.
    """

    logits: Tensor | None
    score: float | None
    used: tuple[int, ...]


@dataclass
class CubePrompt:
    """One object's prompts in the coordinates of a cube.

    Attributes:
        points: (P, 3) voxel indices of the cube; the first ``at_once`` are shown together, the others one by one.
        labels: (P,) 1 foreground, 0 background.
        box: (2, 3) lowest and highest corner, or None.
        mask: (1, 4d, 4h, 4w) logits of the last mask, or None.
        at_once: how many points the first step shows.
        cells: (P, 3) where the points lie among the cells of the logits, not rounded.
        given: the points that somebody gave, in that order.
        goes_on: the mask is an answer already: it is kept, and every point that contradicts it is a correction.
        around: the mask is that of a finer cube: what goes on outside it is looked for.
    """

    points: Tensor
    labels: Tensor
    box: Tensor | None = None
    mask: Tensor | None = None
    at_once: int = 1
    cells: Tensor | None = None
    given: Tensor | None = None
    goes_on: bool = False
    around: bool = False

    @property
    def steps(self) -> int:
        """One for what is shown at once, or for a mask to go on from, and one for each point that comes later."""
        return 1 + max(0, len(self.points) - self._first)

    @property
    def _first(self) -> int:
        return 0 if self.goes_on else self.at_once

    def key(self, step: int, rounds: int) -> tuple:
        """Tells this prompt up to ``step``, its first step asked in ``rounds``, from any other in the same cube."""
        shown = self.shown(step)
        given = _content(self.points[:shown]), _content(self.labels[:shown])
        return step, rounds, self.at_once, self.goes_on, given, self._beside

    @cached_property
    def _beside(self) -> tuple:
        # The same at every step, and a mask is large.
        return _content(self.box), _content(self.mask)

    def follows(self, logits: Tensor, step: int) -> bool:
        """Whether the newest point at ``step`` says what logits (1, 4d, 4h, 4w) say already."""
        newest = slice(self.shown(step) - 1, self.shown(step))
        return self.cells is not None and not bool(contradicted(logits, self.cells[newest], self.labels[newest]).any())

    def shown(self, step: int) -> int:
        """How many points the decoder sees at ``step``, counted from 0."""
        return min(len(self.points), self._first + step)


def _content(values: Tensor | None) -> tuple[str, bytes] | None:
    if values is None:
        return None
    # As bytes, because a prompt without points has no element to be viewed.
    return str(values.dtype), hashlib.sha256(values.detach().cpu().numpy().tobytes()).digest()


class CubeMemory:
    """The embedding of one cube, and what the decoder said of it so far.

    Clients send all their clicks again with every new one: only the step of the new one is left to be decoded.

    Args:
        embedding: what ``network.encode`` returned.
        inside: bool, the decoder's cells that lie in the image.
        size: steps that are kept.

    Attributes:
        decoded: how often the decoder was asked.
        nbytes: of the embedding and all that is kept with it.
        lock: held by whoever decodes; the next one then finds the steps of the one before.
    """

    def __init__(self, embedding: Any, inside: Tensor | None = None, size: int = 32) -> None:
        self.embedding = embedding
        self.inside = inside
        self.size = size
        self.decoded = 0
        self.nbytes = tensor_bytes((embedding, inside))
        self.lock = Lock()
        self._steps: OrderedDict[tuple, Answer] = OrderedDict()

    def recall(self, key: tuple) -> Answer | None:
        """The answer of a step, None where it is not known."""
        if key in self._steps:
            self._steps.move_to_end(key)
        return self._steps.get(key)

    def keep(self, key: tuple, answer: Answer) -> None:
        """Remember a step, and forget the one that was not asked for longest where there are too many."""
        before = self._steps.pop(key, None)
        self._steps[key] = answer
        self.nbytes += tensor_bytes(answer) - tensor_bytes(before)
        while len(self._steps) > self.size:
            self.nbytes -= tensor_bytes(self._steps.popitem(last=False)[1])


def decode_clicks(
    network: nn.Module, memory: CubeMemory, prompts: list[CubePrompt], rounds: int = 1, one_way: bool = False
) -> list[Answer]:
    """The answer for each object.

    Each step shows the decoder all clicks so far and the last step's logits, as in training (FastSAM3D, section 2.1).
    A click that the last step's mask follows already says nothing new: it is not shown, then or later, and changes
    nothing. Objects at the same number of prompts share one call; none is padded, so no object changes another's mask.

    Args:
        network: offers ``decode``.
        memory: of the cube.
        prompts: one for each object.
        rounds: how often the decoder is asked for the first prompts, each time with its own last mask: what they say
            spreads a little further over a large object each time. A correction asks once.
        one_way: a further click on the object only adds to the last mask, and no flood (see :mod:`.growth`); one
            on the background only takes away: no correction spoils what was right elsewhere.
    """
    starts, asked, answers = (list(x) for x in zip(*(_last_known(memory, p, rounds) for p in prompts), strict=True))
    for step in range(min(starts), max(p.steps for p in prompts)):
        groups = defaultdict(list)
        for i, prompt in enumerate(prompts):
            if not starts[i] <= step < prompt.steps:
                continue
            if step > 0 and prompt.follows(answers[i].logits, step):
                memory.keep(prompt.key(step, rounds), answers[i])
                continue
            used = tuple(range(prompt.shown(0))) if step == 0 else (*answers[i].used, prompt.shown(step) - 1)
            left = rounds - asked[i] if step == 0 else 1
            groups[len(used), prompt.box is not None, answers[i].logits is not None, left].append((i, list(used)))
        for (_, boxed, masked, left), members in groups.items():
            points = torch.stack([prompts[i].points[used] for i, used in members])
            labels = torch.stack([prompts[i].labels[used] for i, used in members])
            boxes = torch.stack([prompts[i].box for i, _ in members]) if boxed else None
            last = torch.stack([answers[i].logits for i, _ in members]) if masked else None
            masks = None if last is None else last.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
            logits, iou = network.decode(memory.embedding, points, labels, boxes, masks, rounds=left)
            memory.decoded += left
            for row, (i, used) in enumerate(members):
                found = logits[row].float()
                if step > 0 and (one_way or prompts[i].goes_on):
                    found = _one_way(prompts[i], used[-1], answers[i].logits, found)
                elif step == 0 and prompts[i].around:
                    foreground = prompts[i].labels == FOREGROUND
                    found = grown_around(answers[i].logits, found, prompts[i].cells[foreground])
                answers[i] = Answer(found, float(iou[row, 0]), tuple(used))
                memory.keep(prompts[i].key(step, rounds), answers[i])
    return answers


def corrected(found: Tensor, before: Tensor, labels: Tensor) -> Tensor:
    """Logits (N, 1, s, s, s) after a correction that goes one way, see ``one_way`` of :func:`decode_clicks`.

    Args:
        found: what the decoder says now.
        before: what it said of the last step.
        labels: (N,) of each object's last click.
    """
    on_object = (labels == FOREGROUND).view(-1, 1, 1, 1, 1)
    return torch.where(on_object, torch.maximum(found, before), torch.minimum(found, before))


def _one_way(prompt: CubePrompt, newest: int, last: Tensor, found: Tensor) -> Tensor:
    foreground = bool(prompt.labels[newest] == FOREGROUND)
    # What the network marked itself it may take away as freely.
    if prompt.cells is None or not (foreground or prompt.goes_on):
        return corrected(found[None], last[None], prompt.labels[newest, None])[0]
    return corrected_at(last, found, prompt.cells[newest], foreground)


def _last_known(memory: CubeMemory, prompt: CubePrompt, rounds: int) -> tuple[int, int, Answer]:
    """The first step that is left to be decoded, how often it was asked already, and the last answer."""
    # From the newest on: of a hundred clicks the memory may hold the last ones alone.
    for step in reversed(range(prompt.steps)):
        known = memory.recall(prompt.key(step, rounds))
        if known is not None:
            return step + 1, 0, known
    for fewer in reversed(range(1, rounds)):
        known = memory.recall(prompt.key(0, fewer))
        if known is not None:
            return 0, fewer, known
    if not prompt.goes_on:
        return 0, 0, Answer(prompt.mask, None, ())
    # A background click is shown beside the first click on the object.
    used = (0,) if len(prompt.points) and prompt.labels[0] == FOREGROUND and prompt.follows(prompt.mask, 1) else ()
    return 1, 0, Answer(prompt.mask, None, used)
