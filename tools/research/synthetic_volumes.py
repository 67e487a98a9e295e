# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Labelled 3D volumes made up at random: shapes that organs take, in the looks that scanners give them.

A network that has seen enough random shapes in random contrasts segments real ones too (SynthSeg, Billot et al. 2023;
AnyStar, Dey et al. 2024). A scene is drawn first (which voxel belongs to which region), then painted (which
intensity each region has); label maps of real patients can be painted just as well, see :func:`paint`.

``python -m tools.research.synthetic_volumes --output DIR --seed 0`` draws a sheet of examples.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from common.geometry import random_rotation

# Smaller targets than this share of a volume's side, cubed, cannot be seen by the network.
SMALLEST_TARGET = 0.03


class LabelledVolume(NamedTuple):
    """One made-up volume.

    Attributes:
        image: (X, Y, Z) float32, Hounsfield units or arbitrary ones.
        labels: (X, Y, Z) uint8, one number a region, 0 outside everything.
        targets: the objects that one could ask for, each the labels whose union it is.
    """

    image: np.ndarray
    labels: np.ndarray
    targets: tuple[tuple[int, ...], ...]


def synthetic_volume(rng: np.random.Generator, shape: Sequence[int] = (128, 128, 128)) -> LabelledVolume:
    """A random scene in a random look; the same generator state gives the same volume.

    Args:
        rng: random numbers.
        shape: voxels along the three axes.
    """
    while True:
        scene = Scene(rng, shape)
        if rng.random() < 0.3:
            draw_head(scene)
        else:
            draw_body(scene)
        targets = scene.visible_targets()
        if targets:
            return LabelledVolume(paint(scene.labels, rng), scene.labels, targets)


def smooth_field(rng: np.random.Generator, shape: Sequence[int], cells: float) -> np.ndarray:
    """(shape) float32: a random field of standard deviation about 1 that varies over 1/``cells`` of a side."""
    field = rng.standard_normal([int(cells) + 3] * 3, dtype=np.float32)
    for n in shape:
        # Cubic B-splines along one axis after the other; the axes come round to their places.
        field = np.tensordot(field, _spline_weights(n, cells), axes=(0, 1))
    return field / max(float(field[::3, ::3, ::3].std()), 1e-6)


def _spline_weights(n: int, cells: float) -> np.ndarray:
    """(n, int(cells) + 3) weights of the cubic B-splines at n places over ``cells`` knots."""
    distance = np.abs(np.linspace(0, int(cells), n)[:, None] + 1 - np.arange(int(cells) + 3))
    near, far = 2 / 3 - distance**2 + distance**3 / 2, (2 - distance).clip(0) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


class Scene:
    """Regions drawn one over the other into a label map.

    Args:
        rng: random numbers.
        shape: voxels along the three axes.
    """

    def __init__(self, rng: np.random.Generator, shape: Sequence[int]) -> None:
        self.rng = rng
        self.shape = np.asarray(shape)
        self.size = float(self.shape.mean())
        self.labels = np.zeros(tuple(shape), np.uint8)
        self.targets: list[tuple[int, ...]] = []
        self.count = 0
        # Every surface takes its bumps from one of these few fields: a field of its own for each would be slow.
        self.bumps = [smooth_field(rng, shape, cells) for cells in (3, 6, 12)]

    def new_label(self) -> int:
        """The next free number (the last one again when 255 are in use)."""
        self.count = min(self.count + 1, 255)
        return self.count

    def offer(self, *labels: int) -> None:
        """Name the union of some labels as an object worth segmenting."""
        self.targets.append(tuple(labels))

    def random_place(self, margin: float = 0.15) -> np.ndarray:
        """(3,) a voxel position anywhere but near the border."""
        return (margin + (1 - 2 * margin) * self.rng.random(3)) * self.shape

    def place_in(self, label: int) -> np.ndarray | None:
        """(3,) a random voxel of a region, None where nothing of it is left."""
        voxels = np.flatnonzero(self.labels == label)
        return np.array(np.unravel_index(self.rng.choice(voxels), self.labels.shape)) if len(voxels) else None

    def blob(
        self, center: np.ndarray, radii: np.ndarray, roughness: float = 0.15, bumps: int | None = None
    ) -> tuple[tuple[slice, ...], np.ndarray]:
        """A bumpy, turned superellipsoid: its box and, for the voxels in it, the distance from the centre
        (1 on the surface)."""
        rng = self.rng
        reach = np.ceil(radii.max() * (1 + 3 * roughness)) + 1
        low = np.clip(center - reach, 0, self.shape - 1).astype(int)
        high = np.clip(center + reach + 1, low + 1, self.shape).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        axes = np.ogrid[box]
        turn = random_rotation(rng, np.pi) / radii[:, None]
        power = rng.choice([2.0, 2.0, 3.0, 4.0])
        distance = 0
        for row in turn.astype(np.float32):
            along = sum(w * (a - c) for w, a, c in zip(row, axes, center.astype(np.float32), strict=True))
            distance = distance + (along * along if power == 2 else np.abs(along) ** power)
        field = self.bumps[rng.integers(2) if bumps is None else bumps][box]
        return box, (distance ** (1 / power) + roughness * field).astype(np.float32)

    def fill(self, box: tuple[slice, ...], where: np.ndarray, over: Sequence[int] | None = None) -> int:
        """Give the voxels ``where`` of a box a new label, only over the labels ``over`` if given; return it."""
        label = self.new_label()
        part = self.labels[box]
        part[where if over is None else where & np.isin(part, over)] = label
        return label

    def visible_targets(self) -> tuple[tuple[int, ...], ...]:
        """The targets of which enough is left after everything has been drawn."""
        voxels = np.bincount(self.labels.reshape(-1), minlength=256)
        enough = max(8, (SMALLEST_TARGET * self.size) ** 3)
        left = {tuple(sorted({k for k in t if voxels[k]})) for t in self.targets}
        return tuple(sorted(t for t in left if voxels[list(t)].sum() >= enough))


def draw_head(scene: Scene) -> None:
    """Scalp, skull and fluid around folded grey on white matter with ventricles; or the inner part alone."""
    rng, size = scene.rng, scene.size
    center = scene.shape * rng.uniform(0.42, 0.58, 3)
    radii = size * rng.uniform(0.22, 0.4) * rng.uniform(0.8, 1.2, 3)
    if rng.random() < 0.5:
        around, shell = scene.blob(center, radii * rng.uniform(1.18, 1.35), 0.04)
        scalp = scene.fill(around, shell < 1)
        skull = scene.fill(around, shell < rng.uniform(0.9, 0.95))
        fluid = scene.fill(around, shell < rng.uniform(0.82, 0.88))
        scene.offer(skull)
        scene.offer(scalp, skull, fluid)
        if rng.random() < 0.6:
            scene.fill(*_within(*scene.blob(center - [0, 0, radii[2] * 1.3], radii * rng.uniform(0.5, 0.8, 3))), [0])
    box, hull = scene.blob(center, radii, 0.04)
    folds = np.abs(smooth_field(rng, scene.shape, rng.uniform(7, 14)))[box]
    middle = scene.bumps[1][box]
    depth = 1 - hull
    furrows = rng.uniform(0.05, 0.3)
    fluid = scene.fill(box, hull < 1)
    cortex = depth - furrows * np.exp(-8 * folds) * rng.uniform(0.3, 1) > 0.02
    grey = scene.fill(box, cortex)
    white = scene.fill(box, cortex & (depth - rng.uniform(0.15, 0.4) * np.exp(-2 * folds) + 0.04 * middle > 0.12))
    parts = [grey, white]
    inner = []
    for _ in range(rng.integers(0, 5)):
        # Pairs left and right of the middle: ventricles or deep nuclei.
        offset, extent = radii * rng.uniform(-0.35, 0.35, 3), radii * rng.uniform(0.08, 0.3, 3)
        pair = [scene.fill(*_within(*scene.blob(center + s * offset, extent))) for s in (-1, 1)]
        inner += pair
        scene.offer(pair[0])
        scene.offer(*pair)
    if rng.random() < 0.4:
        below = scene.blob(center + radii * [0, rng.uniform(-0.6, -0.2), rng.uniform(-0.9, -0.7)], radii * 0.45, 0.08)
        parts.append(scene.fill(*_within(*below)))
        scene.offer(parts[-1])
    scene.offer(*parts)
    scene.offer(*parts, *inner)
    scene.offer(*parts, *inner, fluid)
    scene.offer(white)
    scene.offer(grey)
    for _ in range(rng.integers(0, 3)):
        draw_lesion(scene, white)


def draw_body(scene: Scene) -> None:
    """Organs, vessels, bones and lesions, in a trunk or freely in space."""
    rng, size = scene.rng, scene.size
    if rng.random() < 0.65:
        box, trunk = scene.blob(scene.shape / 2, scene.shape * rng.uniform(0.35, 0.62, 3), 0.06)
        skin = scene.fill(box, trunk < 1)
        inside = scene.fill(box, trunk < rng.uniform(0.75, 0.97))
        if rng.random() < 0.3:
            scene.offer(skin, inside)
    last = None
    for _ in range(rng.integers(3, 16)):
        radii = size * np.exp(rng.uniform(np.log(0.035), np.log(0.24))) * rng.uniform(0.55, 1.5, 3)
        center = scene.random_place()
        neighbour = None
        if last is not None and rng.random() < 0.35:
            # Right at the surface of the one before, so that the two touch.
            direction = rng.standard_normal(3)
            center = np.clip(last[1] + direction / np.linalg.norm(direction) * last[2] * 1.3, 2, scene.shape - 3)
            neighbour = last[0]
        label = draw_organ(scene, center, radii)
        if neighbour is not None:
            scene.offer(label, neighbour)
        last = label, center, radii.mean()
    if rng.random() < 0.3:
        draw_chain(scene)
    for _ in range(rng.integers(0, 4)):
        draw_tube(scene)


def draw_organ(scene: Scene, center: np.ndarray, radii: np.ndarray) -> int:
    """One organ, maybe with a wall, an inner part or lesions; the label of its main part."""
    rng = scene.rng
    box, distance = scene.blob(center, radii, rng.choice([0.05, 0.12, 0.2, 0.3]))
    over = None if rng.random() < 0.6 else [0, 1, 2]
    label = scene.fill(box, distance < 1, over)
    kind = rng.random()
    if kind < 0.3:
        inner = scene.fill(box, distance < rng.uniform(0.4, 0.8), [label])
        scene.offer(inner)
        scene.offer(label, inner)
        if rng.random() < 0.5:
            scene.offer(label)
        if rng.random() < 0.3:
            scene.offer(scene.fill(box, distance < rng.uniform(0.15, 0.35), [inner]))
    elif kind < 0.42:
        # A thin wall of another intensity around it: only the whole is asked for, or the wall.
        wall = scene.fill(box, (distance >= rng.uniform(0.8, 0.9)) & (distance < 1), [label])
        scene.offer(wall, label)
        scene.offer(wall)
    elif kind < 0.55:
        for _ in range(rng.integers(1, 4)):
            lesion = draw_lesion(scene, label)
            if lesion:
                scene.offer(label, lesion)
    else:
        scene.offer(label)
    return label


def draw_lesion(scene: Scene, label: int) -> int | None:
    """A small, ragged region inside another; its label, None where there is no room."""
    place = scene.place_in(label)
    if place is None:
        return None
    radii = scene.size * scene.rng.uniform(0.025, 0.08) * scene.rng.uniform(0.7, 1.4, 3)
    box, distance = scene.blob(place, radii, 0.3, bumps=2)
    lesion = scene.fill(box, distance < 1, [label])
    scene.offer(lesion)
    return lesion


def draw_chain(scene: Scene) -> None:
    """A row of like pieces with thinner ones between them, as vertebrae and discs."""
    rng, size = scene.rng, scene.size
    path = random_path(scene, scene.random_place(0.1), int(rng.integers(6, 16)), size * rng.uniform(0.06, 0.12))
    step = np.linalg.norm(path[1] - path[0])
    radii = step * rng.uniform(0.4, 0.6) * rng.uniform(0.9, 1.6, 3)
    pieces = []
    for here, there in zip(path[:-1], path[1:], strict=True):
        if rng.random() < 0.8:
            scene.fill(*_within(*scene.blob((here + there) / 2, radii * 0.8, 0.05)))
        pieces.append(scene.fill(*_within(*scene.blob(here, radii, 0.15, bumps=2))))
        scene.offer(pieces[-1])
    scene.offer(*pieces)


def draw_tube(scene: Scene, start: np.ndarray | None = None, radius: float | None = None) -> int:
    """A winding tube, maybe with a wall and branches; the label of its inside."""
    rng, size = scene.rng, scene.size
    if radius is None:
        radius = size * np.exp(rng.uniform(np.log(0.012), np.log(0.06)))
    trunk = start is None
    path = random_path(scene, scene.random_place(0.1) if trunk else start, int(rng.integers(20, 70)), radius * 0.7)
    thickness = radius * np.exp(0.25 * np.cumsum(rng.standard_normal(len(path))) / 4).clip(0.5, 1.5)
    wall = scene.new_label() if trunk and rng.random() < 0.25 else None
    inside = scene.new_label()
    for scale, label in ((1.35, wall), (1.0, inside)):
        if label is None:
            continue
        for point, r in zip(path, thickness * scale, strict=True):
            low = np.clip(point - r - 1, 0, scene.shape - 1).astype(int)
            high = np.clip(point + r + 2, low + 1, scene.shape).astype(int)
            box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            squared = sum((a - c) ** 2 for a, c in zip(np.ogrid[box], point, strict=True))
            scene.labels[box][squared <= r * r] = label
    branches = [
        draw_tube(scene, path[rng.integers(len(path))], radius * rng.uniform(0.5, 0.8))
        for _ in range(rng.integers(0, 4) if trunk and radius > size * 0.02 else 0)
    ]
    if trunk:
        scene.offer(inside, *branches)
        if wall is not None:
            scene.offer(inside, wall, *branches)
        if branches:
            # Vessels of one tree have one intensity; its parts are not told apart.
            for branch in branches:
                scene.labels[scene.labels == branch] = inside
    return inside


def random_path(scene: Scene, start: np.ndarray, steps: int, length: float) -> np.ndarray:
    """(steps, 3) places of a smooth random walk with steps of ``length`` voxels, turned back at the borders."""
    rng = scene.rng
    direction = rng.standard_normal(3)
    turn = np.zeros(3)
    places = [np.asarray(start, float)]
    for _ in range(steps - 1):
        turn = 0.8 * turn + 0.12 * rng.standard_normal(3)
        direction = direction / np.linalg.norm(direction) + turn
        step = places[-1] + length * direction / np.linalg.norm(direction)
        direction = np.where((step < 1) | (step > scene.shape - 2), -direction, direction)
        places.append(np.clip(step, 1, scene.shape - 2))
    return np.array(places)


def _within(box: tuple[slice, ...], distance: np.ndarray) -> tuple[tuple[slice, ...], np.ndarray]:
    return box, distance < 1


def paint(labels: np.ndarray, rng: np.random.Generator, look: tuple[bool, np.ndarray] | None = None) -> np.ndarray:
    """An image of a label map in a random look: contrast, textures, blur, slices, shading, noise.

    Args:
        labels: (X, Y, Z) uint8, 0 is outside of everything.
        rng: random numbers.
        look: whether it is CT, and the intensity of each label from 0 to 1 (0.5 is water in CT); drawn where None.

    Returns:
        (X, Y, Z) float32: Hounsfield units (air at -1000) in the CT look, arbitrary positive units else.
    """
    if look is None:
        ct, count = rng.random() < 0.35, int(labels.max()) + 1
        means = ct_means(rng, count) if ct else mr_means(rng, count)
    else:
        ct, means = look
        count = len(means)
    spread = rng.uniform(0, 0.06, count).astype(np.float32) * (rng.random(count) < 0.7)
    image = means[labels]
    image += spread[labels] * smooth_field(rng, labels.shape, rng.uniform(10, 28))
    image += 0.5 * spread[labels] * smooth_field(rng, labels.shape, rng.uniform(3, 8))
    black = labels == 0 if rng.random() < 0.4 else None
    if rng.random() < 0.7:
        image = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.1), truncate=2.5)
    if rng.random() < 0.25:
        image = thick_slices(image, int(rng.integers(3)), int(rng.integers(2, 6)))
    if not ct:
        image *= np.exp(rng.uniform(0, 0.35) * smooth_field(rng, labels.shape, rng.uniform(1, 3)))
    noise = torch.from_numpy(rng.integers(0, 2**62, 1))
    noise = torch.randn(labels.shape, generator=torch.Generator().manual_seed(int(noise))).numpy()
    if rng.random() < 0.3:
        noise = 3 * F.avg_pool3d(torch.from_numpy(noise)[None], 3, 1, 1)[0].numpy()
    image += np.exp(rng.uniform(np.log(0.003), np.log(0.08))) * noise
    if not ct:
        image = np.abs(image)
    if black is not None:
        image[black] = 0
    # From 0 .. 1 to units in which fat is near -100, soft tissue 0 to 150, bone from 300.
    return (image * 2000 - 1000 if ct else image * rng.uniform(50, 2000)).astype(np.float32)


def ct_means(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count,) intensities from 0 to 1 as CT has them: air, fat, soft tissue or bone; the first is air."""
    kinds = rng.choice(4, count, p=[0.12, 0.15, 0.55, 0.18])
    air, fat, bone = rng.uniform(0, 0.15, count), rng.uniform(0.44, 0.47, count), rng.uniform(0.6, 0.9, count)
    means = np.choose(kinds, [air, fat, rng.uniform(0.49, 0.59, count), bone])
    means[0] = 0
    return means.astype(np.float32)


def mr_means(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count,) intensities from 0 to 1 as MR may have them; the first is mostly dark."""
    means = rng.uniform(0.05, 1, count)
    if rng.random() < 0.7:
        means[0] = rng.uniform(0, 0.05)
    return means.astype(np.float32)


def thick_slices(image: np.ndarray, axis: int, factor: int) -> np.ndarray:
    """The image as read from slices ``factor`` voxels thick, interpolated back to its own shape."""
    volume = torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, axis, -1)))[None, None]
    factor = min(factor, volume.shape[-1])
    thick = F.avg_pool3d(volume, (1, 1, factor), ceil_mode=True)
    thin = F.interpolate(thick, size=volume.shape[2:], mode="trilinear")[0, 0].numpy()
    return np.ascontiguousarray(np.moveaxis(thin, -1, axis))


def preview(path: Path, seed: int, count: int = 12, size: int = 128) -> None:
    """Write a sheet of examples: a slice through a target, and the same slice with the target's outline."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2 * 6, 2 * -(-count // 3)), layout="tight")
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        volume = synthetic_volume(rng, (size,) * 3)
        target = np.isin(volume.labels, volume.targets[rng.integers(len(volume.targets))])
        z = int(target.sum(axis=(0, 1)).argmax())
        low, high = np.percentile(volume.image, (1, 99)) if volume.image.min() > -250 else (-250, 350)
        for column in range(2):
            axes = figure.add_subplot(-(-count // 3), 6, 2 * i + column + 1)
            axes.imshow(volume.image[..., z].T, cmap="gray", vmin=low, vmax=high)
            if column:
                axes.contour(target[..., z].T, [0.5], colors="red", linewidths=0.8)
            axes.set_axis_off()
    figure.savefig(path, dpi=80)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Draw a sheet of made-up volumes with one target each.")
    parser.add_argument("--output", type=Path, required=True, help="folder for synthetic_volumes.png")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--size", type=int, default=128, help="voxels a side")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    preview(arguments.output / "synthetic_volumes.png", arguments.seed, arguments.count, arguments.size)


if __name__ == "__main__":
    main()
