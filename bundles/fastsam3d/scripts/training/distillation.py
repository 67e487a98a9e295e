# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Distillation: student and teacher get the same cubes, and the student learns the teacher's features."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.distillation import FeatureCache, LayerwiseLoss, ProgressiveSchedule, cosine, on_grid
from ..common.weights import load_weights
from .clicking import Clicking, Interaction
from .interactive import chance, each_object

logger = logging.getLogger(__name__)
EMBEDDING = "embedding"


def encoder_layers(encoder: nn.Module, image: Tensor) -> dict[int | str, Tensor]:
    """Every block's output by its number, counted from 1, and the neck's as ``embedding``.

    Args:
        encoder: :class:`..networks.image_encoder.ImageEncoder3D` or
            :class:`..networks.student.StudentEncoder3D`.
        image: (B, 1, S, S, S) normalised intensities.

    Returns:
        layer -> (B, d, h, w, C).
    """
    _, blocks, *_ = encoder.forward_features(image)
    layers: dict[int | str, Tensor] = {i: block for i, block in enumerate(blocks, start=1)}
    layers[EMBEDDING] = encoder.neck(blocks[-1].movedim(-1, 1)).movedim(1, -1)
    return layers


class FeatureDistillation(nn.Module):
    """Student and teacher see the same cube; the loss is between pairs of their layers.

    Args:
        student: network whose ``image_encoder`` learns.
        teacher: network whose ``image_encoder`` it learns from; it stays as it is.
        loss: over the pairs.
        schedule: how many pairs count.
        cache_dir: folder of the teacher's features; None to compute them each time.
        images: how many different cubes there will be, to say how large the cache becomes.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        loss: LayerwiseLoss,
        schedule: ProgressiveSchedule,
        cache_dir: str | None = None,
        images: int = 0,
    ) -> None:
        super().__init__()
        if schedule.pairs != len(loss.pairs):
            raise ValueError(
                f"a schedule for {schedule.pairs} pairs, a loss over {len(loss.pairs)}: expected as many in both"
            )
        self.student = student.image_encoder
        self.teacher = teacher.image_encoder.requires_grad_(False)
        self.loss = loss
        self.schedule = schedule
        self.cache_dir = cache_dir
        self.images = images
        self.cache: FeatureCache | None = None

    def forward(self, image: Tensor, label: Tensor | None = None, seed: Tensor | None = None) -> dict[str, Tensor]:
        """What the student still lacks.

        Args:
            image: (B, 1, S, S, S) normalised cubes.
            label, seed: not looked at.

        Returns:
            ``loss`` () over the pairs that count now; in evaluation ``likeness`` (B,), the mean cosine between the two
            embeddings' cells, in its place.
        """
        ours = encoder_layers(self.student, image)
        if not self.training:
            return {"likeness": likeness(ours[EMBEDDING], encoder_layers(self.teacher, image)[EMBEDDING])}
        return {"loss": self.loss(ours, self._look(image), self.schedule.k)}

    @torch.no_grad()
    def _look(self, image: Tensor) -> Mapping[int | str, Tensor]:
        """The teacher's layers that the pairs name."""
        compute = lambda x: encoder_layers(self.teacher, x)  # noqa: E731
        if self.cache_dir is None:
            return compute(image)
        if self.cache is None:
            # Only now were the weights loaded, and is the size of a cube known.
            names = tuple(dict.fromkeys(t for t, _ in self.loss.pairs))
            self.cache = FeatureCache(self.cache_dir, self.teacher, names)
            self.cache.announce(self.images, compute(image[:1]))
        return self.cache.get(image, compute)


class LogitDistillation(nn.Module):
    """The student's embedding, through the teacher's decoder, has to give the teacher's masks.

    The prompts are those of a simulated person who corrects the teacher. For comparison: according to the paper it
    did not converge.

    Args:
        student: network whose ``image_encoder`` learns.
        teacher: whole network; it stays as it is.
        clicking: how the person behaves; ``steps`` has to be a single number.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, clicking: Clicking) -> None:
        super().__init__()
        if not isinstance(clicking.steps, int):
            raise ValueError(
                f"steps {clicking.steps}: expected a single number of steps for the distillation of logits"
            )
        self.student = student.image_encoder
        self.teacher = teacher.requires_grad_(False)
        self.clicking = clicking

    def forward(self, image: Tensor, label: Tensor, seed: Tensor) -> dict[str, Tensor]:
        """See :meth:`FeatureDistillation.forward`; the loss is the cross entropy with the teacher's probabilities.

        Args:
            image: (B, 1, S, S, S) normalised cubes.
            label: (B, K, 1, S, S, S) 1 in each of K objects.
            seed: (B,) of the random numbers of each cube's objects.
        """
        ours = self.student(image)
        theirs = self.teacher.encode(image)
        if not self.training:
            return {"likeness": likeness(ours.features.movedim(1, -1), theirs.features.movedim(1, -1))}
        count = label.shape[1]
        ours = each_object(theirs._replace(features=ours.features), count)
        theirs = each_object(theirs, count)
        cells = 4 * theirs.features.shape[-1]
        target = F.adaptive_avg_pool3d(label.flatten(0, 1).float(), cells)
        state = Interaction(target, image.shape[-1] // cells, self.clicking, self.clicking.steps, *chance(seed, count))
        loss = torch.zeros((), device=image.device)
        for step in range(self.clicking.steps):
            wanted = self.teacher.decode(theirs, *state.prompts)[0].float()
            given = self.teacher.decode(ours, *state.prompts)[0].float()
            loss = loss + F.binary_cross_entropy_with_logits(given, wanted.sigmoid())
            if step + 1 < self.clicking.steps:
                state.correct(wanted)
        return {"loss": loss / self.clicking.steps}


def likeness(ours: Tensor, theirs: Tensor) -> Tensor:
    """(B, d, h, w, C) twice -> (B,): the mean cosine between the channels of a cell."""
    return 1 - cosine(on_grid(ours, theirs.shape[1:-1]), theirs)


def read_teacher(network: nn.Module, path: str | None) -> nn.Module:
    """The teacher with its weights, before any data is read.

    Raises:
        ValueError: no weights, or those of another network.
    """
    if not path:
        raise ValueError(
            "no teacher_path was given: expected the model.pt of a training with train_teacher.json, or converted "
            "weights of SAM-Med3D, all of teacher_def's tensors"
        )
    load_weights(network, path)
    return network.eval()


class StartFromTeacher:
    """Handler that gives a network, when the training starts, all weights of the teacher's decoder that fit it.

    A student's embedding replaces the teacher's: so does the decoder that already knows how to read it. Layers that
    only the network has (finer maps, a refiner) keep the weights that they have.

    Args:
        network: to be given weights.
        teacher: with its weights.
        parts: of both.
    """

    def __init__(
        self, network: nn.Module, teacher: nn.Module, parts: Sequence[str] = ("prompt_encoder", "mask_decoder")
    ) -> None:
        self.network, self.teacher, self.parts = network, teacher, parts

    def attach(self, engine: Engine) -> None:
        """Register for the start."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        for part in self.parts:
            own = getattr(self.network, part).state_dict()
            given = getattr(self.teacher, part).state_dict()
            fitting = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
            getattr(self.network, part).load_state_dict({**own, **fitting})
            logger.info("%s: %d of %d tensors are the teacher's", part, len(fitting), len(own))
