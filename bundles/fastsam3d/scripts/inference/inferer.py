# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""From a volume that carries its prompts to a label map on the same grid."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from ..common.bounded_cache import BoundedCache
from ..common.flags import flag
from ..common.geometry import Grid, cube_around, resample
from ..common.intensity import NORMALISATIONS, intensity_bounds
from . import cubes
from .decoding import CubeMemory, decode_clicks
from .fast_path import FastPath
from .honoured import honoured
from .label_map import count_voxels, label_map
from .request import unpack
from .scene import Scene
from .summary import summarise
from .targets import Target, View, cube_prompt, place, share_cubes

IGNORED = "clicks that the network did not follow: {}; the mask was set right around them"
SMALL = "the mask is small"


class ClickInferer(Inferer):
    """Segments every object that the prompts in ``image.meta`` name.

    The network sees a cube around the first prompt. Where the mask turns out much smaller than the cube, further clicks
    are followed in a finer one; where it reaches the cube's border, coarser ones cover the rest. Embeddings of the last
    cubes are kept, and what the decoder said of them: a further click costs its own step alone. Safe among threads.

    Args:
        cube_size: voxels a side of the cube.
        spacing: mm between its voxels unless the object asks for others.
        small_cube_size: of a finer cube for a small object, where so few show all of the image; None for ``cube_size``,
            which is also the most.
        window: intensities that count, see :func:`..common.intensity.intensity_bounds`.
        normalisation: ``clipped``, or ``above_zero`` for SAM-Med3D's weights.
        amp: precision of the networks, see :func:`.fast_path.choose_precision`; ``mixed`` changes no mask visibly.
        compiled: run the image encoder through ``torch.compile``.
        rounds, one_way: how often the decoder is asked for the first prompts, and whether a further click changes the
            mask in one direction alone, see :func:`.decoding.decode_clicks`.
        cache_bytes: of the embeddings that are kept, with the logits of the clicks on them.
        progress: show a progress bar.

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
        progress: bool = True,
    ) -> None:
        super().__init__()
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation {normalisation!r}: expected {' or '.join(NORMALISATIONS)}")
        if cube_size < 1 or rounds < 1 or not spacing > 0:
            raise ValueError(f"cube_size {cube_size}, rounds {rounds}, spacing {spacing}: expected positive numbers")
        if small_cube_size is not None and small_cube_size < 1:
            raise ValueError(f"small_cube_size {small_cube_size}: expected a positive number, or null for cube_size")
        self.cube_size = cube_size
        self.small_cube_size = min(small_cube_size or cube_size, cube_size)
        self.spacing = spacing
        self.window = window
        self.normalise = NORMALISATIONS[normalisation]
        self.rounds = rounds
        self.one_way = flag("one_way", one_way)
        self.fast_path = FastPath(amp, flag("compiled", compiled))
        self.cache = BoundedCache(cache_bytes, _bytes)
        self.progress = flag("progress", progress)

    @torch.no_grad()
    def __call__(self, inputs: MetaTensor, network: nn.Module, *args: Any, **kwargs: Any) -> MetaTensor:
        """Label map of the objects, on the grid of the input.

        Args:
            inputs: (1, 1, X, Y, Z) that carries its request, see :class:`.request.ReadRequestd`.
            network: offers ``encode`` and ``decode``, see :class:`..networks.fastsam3d.FastSAM3D`.

        Returns:
            (1, 1, X, Y, Z) uint8 or uint16: 0 background, then the objects in the order of the prompts. Its meta
            holds ``summary``, JSON: what was segmented, how large, in which cubes, in which time.

        Raises:
            ValueError: no request in the meta, more than one image, a scribble without foreground.
        """
        scene = unpack(inputs)
        look = _Look(self, scene, network)
        takes_boxes = network.prompt_encoder.takes_boxes
        targets = [place(scene, p, self.cube_size, self.spacing, takes_boxes) for p in scene.prompts]
        with tqdm(total=len(targets), desc="segmenting", unit="object", disable=not self.progress) as bar:
            for group in share_cubes(targets, self.cube_size):
                self._follow(scene.grid, group, look)
                for target in group:
                    self._refine(scene.grid, target, look)
                    ignored = max(v.ignored for v in target.views)
                    if ignored:
                        target.notes.append(IGNORED.format(ignored))
                    bar.update()
        labels = label_map(targets, scene.grid, scene.image.device)
        voxels = count_voxels(labels, targets, scene.grid)
        summary = {**summarise(scene, targets, voxels), **look.summary()}
        result = MetaTensor(labels[None, None], meta=dict(inputs.meta))
        result.is_batch = inputs.is_batch
        # A collated batch is taken apart again later: whatever lies in its meta needs a place for the batch.
        result.meta["summary"] = [json.dumps(summary)] if inputs.is_batch else json.dumps(summary)
        return result

    def _follow(self, image: Grid, group: list[Target], look: _Look) -> None:
        """The first prompts in the group's cube, and all further clicks in the cube that the mask then asks for.

        A small object is followed in a finer cube alone: a further click costs one step there, and none of it is lost
        when the wide cube says something else. Where its first answer is very small, the wide cube is asked once.
        """
        wide = look.at(cube_around(group[0].center_mm, group[0].spacing, self.cube_size))
        look.ask(wide, group, "first prompt", further=False, rounds=1)
        narrow = [self._finer(image, target, cubes.MUCH_NARROWER) for target in group]
        unsure = [target for target, finer in zip(group, narrow, strict=True) if finer is None]
        if unsure:
            look.ask_again(wide, unsure, "first prompt", further=False)
        others = []
        for target, finer in zip(group, narrow, strict=True):
            finer = finer or self._finer(image, target)
            if finer is not None:
                look.ask(look.at(finer), [target], SMALL)
                # The finer cube holds all of the mask, and the wide one knows the first click alone.
                del target.views[0]
            elif target.known < len(target.prompt.points):
                others.append(target)
        if others:
            look.ask_again(wide, others, "first prompt")

    def _refine(self, image: Grid, target: Target, look: _Look) -> None:
        """Coarser cubes until mask and clicks lie in them, or a finer one for an object that corrections made small."""
        clicks = image.to_mm(np.array(target.prompt.foreground).reshape(-1, 3))
        while why := _too_narrow(target.views[-1], clicks):
            cube = cubes.coarser(target.views[-1].cube, image, self.cube_size)
            if cube is None:
                return
            look.ask(look.at(cube), [target], why)
        if len(target.views) > 1:
            return
        finer = self._finer(image, target)
        if finer is not None:
            look.ask(look.at(finer), [target], SMALL)
            target.views.reverse()

    def _finer(self, image: Grid, target: Target, narrower: float = cubes.NARROWER) -> Grid | None:
        """A narrower cube that shows the mask and all clicks on the object, None where there is none."""
        (view,) = target.views
        if view.bounds is None or cubes.touches_border(view.mask, view.inside):
            return None
        clicks = image.to_mm(np.array(target.prompt.foreground).reshape(-1, 3))
        shown = np.concatenate([view.grid.crop(*view.bounds).corners_mm(), clicks])
        return cubes.finer(view.cube, shown, image, self.spacing, (self.small_cube_size, self.cube_size), narrower)


def _too_narrow(view: View, clicks: np.ndarray) -> str | None:
    """Why a coarser cube is needed too: the mask, or clicks (N, 3) in mm on the object, go on beyond this one."""
    if cubes.touches_border(view.mask, view.inside):
        return "the mask reached the border of the cube"
    return None if view.cube.holds(clicks).all() else "a click lies outside the cube"


class _Seen(NamedTuple):
    """A cube, the cells of its logits, and what the network said of it so far."""

    cube: Grid
    low: Grid
    memory: CubeMemory


class _Look:
    """Shows cubes of one scene to the network, and keeps the time."""

    def __init__(self, config: ClickInferer, scene: Scene, network: nn.Module) -> None:
        self.config = config
        self.scene = scene
        self.network, self.weights = config.fast_path(network, scene.image.device)
        find_bounds = lambda: intensity_bounds(scene.image, config.window)  # noqa: E731
        self.bounds, _ = config.cache.get((scene.content, "bounds"), config.window, find_bounds)
        self.seconds = {"encode": 0.0, "decode": 0.0}
        self.encoded = self.reused = self.decoded = 0

    def at(self, cube: Grid) -> _Seen:
        """Encode ``cube``, or recall what is known of it."""
        start = self._now()
        # The cube is known by where it lies in which voxels: to look it up it need not be resampled.
        key = (self.scene.content, self.scene.grid.affine.tobytes(), cube.affine.tobytes(), cube.shape, self.bounds)
        memory, known = self.config.cache.get(key, self.weights, lambda: self._encode(cube))
        self.encoded, self.reused = self.encoded + (not known), self.reused + known
        self.seconds["encode"] += self._now() - start
        return _Seen(cube, _low_grid(cube, memory.inside.shape), memory)

    def ask_again(self, seen: _Seen, targets: list[Target], why: str, further: bool = True) -> None:
        """As :meth:`ask`; the view replaces those before."""
        for target in targets:
            target.views.clear()
            target.looks.clear()
        self.ask(seen, targets, why, further)

    def ask(
        self, seen: _Seen, targets: list[Target], why: str, further: bool = True, rounds: int | None = None
    ) -> None:
        """Decode the targets in a cube; each gets a view more.

        Args:
            seen: the cube.
            targets: in it.
            why: it was looked at.
            further: show all clicks, and not only those of the first step.
            rounds: how often the first step is asked, the configuration's number by default.
        """
        start = self._now()
        takes_boxes = self.network.prompt_encoder.takes_boxes
        clicks = [len(t.prompt.points) if further else t.known for t in targets]
        prompts = [
            cube_prompt(self.scene, t, seen.cube, seen.low, takes_boxes, n)
            for t, n in zip(targets, clicks, strict=True)
        ]
        memory = seen.memory
        with memory.lock:
            before = memory.decoded
            asked = self.config.rounds if rounds is None else rounds
            results = decode_clicks(self.network, memory, prompts, asked, self.config.one_way)
            self.decoded += memory.decoded - before
        self.seconds["decode"] += self._now() - start
        for target, prompt, (logits, score), count in zip(targets, prompts, results, clicks, strict=True):
            logits, ignored = honoured(logits, prompt.cells, prompt.labels)
            target.views.append(View(seen.cube, seen.low, logits, memory.inside, score, count, ignored))
            target.looks.append((seen.cube, why))

    def _encode(self, cube: Grid) -> CubeMemory:
        """Resample the volume to the cube and encode it."""
        values, inside = resample(self.scene.image, self.scene.grid, cube)
        embedding = self.network.encode(self.config.normalise(values, inside, self.bounds)[None])
        cells = [4 * n for n in embedding.features.shape[2:]]
        return CubeMemory(embedding, F.adaptive_max_pool3d(inside[None].float(), cells)[0] > 0)

    def summary(self) -> dict[str, Any]:
        """Time and the choices that hold for the whole scene."""
        return {
            "intensity_bounds": [round(b, 4) for b in self.bounds],
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


def _low_grid(cube: Grid, shape: Sequence[int]) -> Grid:
    """The cells of the decoder's logits over the same space as ``cube``."""
    factors = np.array(cube.shape) / np.array(shape)
    affine = cube.affine.copy()
    affine[:3, :3] = affine[:3, :3] * factors
    affine[:3, 3] = cube.to_mm((factors - 1) / 2)
    return Grid(affine, tuple(shape))
