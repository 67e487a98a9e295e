# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The engine: a volume in memory and prompts in, masks out. MONAI, the evaluation and the tests all call it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ..common.bounded_cache import BoundedCache, digest
from ..common.digits import rounded
from ..common.flags import flag
from ..common.geometry import Grid, resample
from ..common.intensity import NORMALISATIONS, intensity_bounds
from ..common.prompts import ObjectPrompt, read_prompts
from .confidence import predicted_iou, probabilities
from .cube_prompts import cube_prompt
from .decoding import CubeMemory, decode_clicks
from .honoured import honoured
from .label_map import count_voxels, label_map, object_logits
from .scene import Scene
from .search import Look, Settings, View, making_up_the_mask, next_look
from .speed.fast_path import FastPath
from .summary import summarise
from .target import Target, last_mask, place, shared_cubes


class Segmentation(NamedTuple):
    """What was found.

    Attributes:
        labels: (X, Y, Z) uint8 or uint16: 0 background, then the objects in the order of the prompts.
        summary: plain JSON types: what was segmented, how large, in which cubes, in which time.
        scores: predicted IoU of each object, None of a last mask that no click changed; see
            :func:`.confidence.predicted_iou`.
        views: the views that make up each object's mask, see :func:`.search.making_up_the_mask`.
        given: (X, Y, Z) bool, the last mask of each object, None where there was none.
        grid: where the voxels lie.
        temperature: of the probabilities.
    """

    labels: Tensor
    summary: dict[str, Any]
    scores: list[float | None]
    views: list[list[View]]
    given: list[Tensor | None]
    grid: Grid
    temperature: float = 1.0

    def probabilities(self, index: int) -> Tensor:
        """(X, Y, Z) float32 of an object, counted from 0, whatever the others say; see :mod:`.confidence`."""
        return probabilities(self.logits(index), self.temperature)

    def logits(self, index: int) -> Tensor:
        """(X, Y, Z) float32 of an object, counted from 0; very low where it was not looked for."""
        return object_logits(self.views[index], self.grid, self.labels.device, self.given[index])


class Segmenter:
    """Segments every object that prompts name.

    The network sees a cube around the first prompt; :mod:`.search` says which cubes follow. Embeddings of the last
    cubes are kept, and what the decoder said of them: a further click costs its own step alone. Safe among threads.

    Args:
        cube_size: voxels a side of the cube.
        spacing: mm between its voxels unless the object asks for others.
        small_cube_size: of a finer cube for a small object, where so few show all of the image; None for ``cube_size``,
            which is also the most.
        window: intensities that count, see :func:`..common.intensity.intensity_bounds`.
        normalisation: ``clipped``, or ``above_zero`` for SAM-Med3D's weights.
        amp: precision of the networks, see :func:`.speed.fast_path.choose_precision`; ``mixed`` hardly changes a mask.
        compiled: run the image encoder through ``torch.compile``.
        rounds, one_way: how often the decoder is asked for the first prompts, and whether a further click changes the
            mask in one direction alone, see :func:`.decoding.decode_clicks`.
        cache_bytes: of the embeddings that are kept, with the logits of the clicks on them.
        max_rounds: of ``rounds``, each of which takes as long as the first.
        temperature: of the weights, that makes probabilities of their logits.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        cube_size: int = 128,
        spacing: float = 1.5,
        small_cube_size: int | None = None,
        window: str | list[float] = "auto",
        normalisation: str = "clipped",
        amp: bool | str = "mixed",
        compiled: bool = False,
        rounds: int = 1,
        one_way: bool | str = True,
        cache_bytes: int = 1 << 29,
        max_rounds: int = 20,
        temperature: float = 1.0,
    ) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature {temperature}: expected a positive number")
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation {normalisation!r}: expected {' or '.join(NORMALISATIONS)}")
        if cube_size < 1 or rounds < 1 or not spacing > 0:
            raise ValueError(f"cube_size {cube_size}, rounds {rounds}, spacing {spacing}: expected positive numbers")
        if rounds > max_rounds:
            raise ValueError(f"rounds {rounds}: expected at most {max_rounds}; max_rounds raises it")
        if small_cube_size is not None and small_cube_size < 1:
            raise ValueError(f"small_cube_size {small_cube_size}: expected a positive number, or null for cube_size")
        self.settings = Settings(cube_size, min(small_cube_size or cube_size, cube_size), spacing, rounds)
        self.temperature = temperature
        self.window = window
        self.normalise = NORMALISATIONS[normalisation]
        self.one_way = flag("one_way", one_way)
        self.fast_path = FastPath(amp, flag("compiled", compiled))
        self.cache = BoundedCache(cache_bytes, _bytes)

    def segment(
        self,
        volume: Tensor | np.ndarray,
        affine: np.ndarray,
        prompts: Sequence[ObjectPrompt] | Mapping[str, Any],
        network: nn.Module,
        masks: Mapping[str, Tensor] | None = None,
        content: str | None = None,
    ) -> Segmentation:
        """Masks of the objects in a volume.

        Args:
            volume: (X, Y, Z) intensities, on the device of the network.
            affine: (4, 4) voxel index -> mm (RAS).
            prompts: one for each object, or as users spell them, see :func:`..common.prompts.read_prompts`; positions
                are voxel indices of the volume.
            network: offers ``encode`` and ``decode``, see :class:`..networks.fastsam3d.FastSAM3D`.
            masks: (X, Y, Z) label map of each ``scribble``, ``lasso`` and ``previous_mask``, by the name that the
                prompts give it.
            content: a key of this volume, different for any other; None for a hash of the voxels.

        Raises:
            ValueError: a volume or mask of another shape, prompts of the wrong form, a scribble without foreground.
        """
        image = torch.as_tensor(volume)[None].float()
        shape = tuple(image.shape[1:])
        if image.ndim != 4 or np.shape(affine) != (4, 4):
            raise ValueError(
                f"a volume of shape {shape} and an affine of {np.shape(affine)}: expected (X, Y, Z) and (4, 4)"
            )
        asked = read_prompts(prompts, shape) if isinstance(prompts, Mapping) else list(prompts)
        drawn = {name: torch.as_tensor(mask).to(image.device) for name, mask in (masks or {}).items()}
        for name in (n for p in asked for n in p.masks):
            found = tuple(drawn[name].shape) if name in drawn else "missing"
            if found != shape:
                raise ValueError(f"the mask {name!r} is {found}: expected one on the grid of the volume, {shape}")
        grid = Grid(np.asarray(affine, dtype=np.float64), shape)
        return self.segment_scene(Scene(image, grid, asked, drawn, [], content or digest(image), False), network)

    @torch.no_grad()
    def prepare(self, scene: Scene, network: nn.Module) -> None:
        """What the first click on a scene's image would wait for and needs no click to be known.

        The intensities that count, the network's faster copy, and one answer in the middle of the image: what a
        processor does for the first time takes it longer.

        Args:
            scene: its prompts do not matter.
            network: as of :meth:`segment`.
        """
        middle = tuple((n - 1) / 2 for n in scene.grid.shape)
        viewing, settings = _Viewing(self, scene, network), self.settings
        target = place(scene, ObjectPrompt("", (middle,), (1,)), settings.cube_size, settings.spacing, True)
        look = next_look(target, [], scene.grid, settings)
        viewing.ask(viewing.show(look.cube), [target], [look], [[]])

    @torch.no_grad()
    def segment_scene(self, scene: Scene, network: nn.Module, progress: bool = False) -> Segmentation:
        """As :meth:`segment`; ``progress`` shows a bar."""
        viewing = _Viewing(self, scene, network)
        takes_boxes, settings = network.prompt_encoder.takes_boxes, self.settings
        targets = [place(scene, p, settings.cube_size, settings.spacing, takes_boxes) for p in scene.prompts]
        cubes = shared_cubes([t.cube for t in targets])
        targets = [replace(t, cube=cube) for t, cube in zip(targets, cubes, strict=True)]
        seen: list[list[View]] = [[] for _ in targets]
        with tqdm(total=len(targets), desc="segmenting", unit="object", disable=not progress) as bar:
            for first in {id(cube): cube for cube in cubes}.values():
                members = [i for i, cube in enumerate(cubes) if cube is first]
                viewing.follow_together(first, [targets[i] for i in members], [seen[i] for i in members])
                for i in members:
                    viewing.follow(targets[i], seen[i])
                    bar.update()
        views = [making_up_the_mask(s) for s in seen]
        given = [last_mask(scene, t) for t in targets]
        labels = label_map(views, scene.grid, scene.image.device, given)
        voxels = count_voxels(labels, views, scene.grid, given)
        scores = [predicted_iou(v, self.temperature) for v in views]
        summary = {**summarise(scene, targets, seen, voxels, scores), **viewing.summary()}
        return Segmentation(labels, summary, scores, views, given, scene.grid, self.temperature)


class _Shown(NamedTuple):
    """A cube, the cells of its logits, and what the network said of it so far."""

    cube: Grid
    cells: Grid
    memory: CubeMemory


class _Viewing:
    """Shows cubes of one scene to the network, and keeps the time."""

    def __init__(self, config: Segmenter, scene: Scene, network: nn.Module) -> None:
        self.config = config
        self.scene = scene
        # Computes what the network computes, faster; with the network itself all else is the same.
        self.network, self.weights = config.fast_path(network, scene.image.device)
        find_bounds = lambda: intensity_bounds(scene.image, config.window)  # noqa: E731
        self.bounds, _ = config.cache.get((scene.content, "bounds"), config.window, find_bounds)
        self.seconds = {"encode": 0.0, "decode": 0.0}
        self.encoded = self.reused = self.decoded = 0

    def follow_together(self, cube: Grid, targets: list[Target], seen: list[list[View]]) -> None:
        """Append to what was ``seen`` of each target all looks in the cube that they share."""
        shown = self.show(cube)
        while True:
            looks = [self._next(t, s) for t, s in zip(targets, seen, strict=True)]
            # All at the same stage: the others have left the cube.
            here = [i for i, look in enumerate(looks) if look is not None and look.cube is cube]
            if not here:
                return
            self.ask(shown, [targets[i] for i in here], [looks[i] for i in here], [seen[i] for i in here])

    def follow(self, target: Target, seen: list[View]) -> None:
        """Append to what was ``seen`` of a target all looks in cubes of its own."""
        while look := self._next(target, seen):
            self.ask(self.show(look.cube), [target], [look], [seen])

    def _next(self, target: Target, seen: Sequence[View]) -> Look | None:
        return next_look(target, seen, self.scene.grid, self.config.settings)

    def show(self, cube: Grid) -> _Shown:
        """Encode ``cube``, or recall what is known of it."""
        start = self._now()
        # The cube is known by where it lies in which voxels: to look it up it need not be resampled.
        key = (self.scene.content, self.scene.grid.affine.tobytes(), cube.affine.tobytes(), cube.shape, self.bounds)
        memory, known = self.config.cache.get(key, self.weights, lambda: self._encode(cube))
        self.encoded, self.reused = self.encoded + (not known), self.reused + known
        self.seconds["encode"] += self._now() - start
        return _Shown(cube, _cells(cube, memory.inside.shape), memory)

    def ask(self, shown: _Shown, targets: list[Target], looks: list[Look], seen: list[list[View]]) -> None:
        """Decode the targets in a cube, in looks of one stage; each has seen a view more."""
        start = self._now()
        last = [None if look.anew else s[-1] for look, s in zip(looks, seen, strict=True)]
        prompts = [
            cube_prompt(self.scene, t, look, shown.cells, view)
            for t, look, view in zip(targets, looks, last, strict=True)
        ]
        memory = shown.memory
        with memory.lock:
            before = memory.decoded
            results = decode_clicks(self.network, memory, prompts, looks[0].rounds, self.config.one_way)
            self.decoded += memory.decoded - before
        self.seconds["decode"] += self._now() - start
        for views, look, prompt, answer in zip(seen, looks, prompts, results, strict=True):
            clicks = prompt.cells[prompt.given], prompt.labels[prompt.given]
            logits, ignored = honoured(answer.logits, *clicks, any(v.bounds for v in views))
            before = prompt.mask if prompt.goes_on else None
            views.append(View(look, shown.cells, logits, memory.inside, answer.score, ignored, before))

    def _encode(self, cube: Grid) -> CubeMemory:
        """Resample the volume to the cube and encode it."""
        values, inside = resample(self.scene.image, self.scene.grid, cube)
        embedding = self.network.encode(self.config.normalise(values, inside, self.bounds)[None])
        cells = [4 * n for n in embedding.features.shape[2:]]
        return CubeMemory(embedding, F.adaptive_max_pool3d(inside[None].float(), cells)[0] > 0)

    def summary(self) -> dict[str, Any]:
        """Time and the choices that hold for the whole scene."""
        return {
            "intensity_bounds": [rounded(b, 4, self.bounds[1] - self.bounds[0]) for b in self.bounds],
            "volume": {"read": int(not self.scene.reused), "reused": int(self.scene.reused)},
            "embeddings": {"computed": self.encoded, "reused": self.reused},
            "decoder_calls": self.decoded,
            "seconds": {k: round(v, 4) for k, v in self.seconds.items()},
        }

    def _now(self) -> float:
        if self.scene.image.is_cuda:
            torch.cuda.synchronize(self.scene.image.device)
        return time.perf_counter()


def _bytes(kept: CubeMemory | tuple[float, float]) -> int:
    # Two bounds are little, but not nothing: there is a pair for every volume that was ever seen.
    return kept.nbytes if isinstance(kept, CubeMemory) else 1024


def _cells(cube: Grid, shape: Sequence[int]) -> Grid:
    """The cells of the decoder's logits over the same space as ``cube``."""
    factors = np.array(cube.shape) / np.array(shape)
    affine = cube.affine.copy()
    affine[:3, :3] = affine[:3, :3] * factors
    affine[:3, 3] = cube.to_mm((factors - 1) / 2)
    return Grid(affine, tuple(shape))
