# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Images painted from real label maps among the items of a training of ``fastsam3d`` (SynthSeg, Billot et al. 2023).

``python -m tools.research.painted ../shared/data painted.png`` draws a page of them, with one object each.
"""

from __future__ import annotations

import argparse
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, Transform

from bundles.fastsam3d.scripts.training.cubes import FEWEST_VOXELS
from common.intensity import intensity_bounds
from tools.research.label_maps import BRAIN, SIDES, SOURCES, TISSUES, LabelMap, label_maps, tissue
from tools.research.synthetic_volumes import Scene, ct_means, draw_lesion, draw_tube, mr_means, paint, smooth_field

# Room for what is added: regions around, lesions, vessels.
MOST_STRUCTURES = 200
# Of each kind of object, how many of an item may be asked for, and in how many items. A whole brain is a likely answer
# to any click in a head: asked for in each, it would be the answer to all of them.
ASKED = {"single": (6, 1.0), "sides": (1, 0.7), "tissue": (1, 0.4), "brain": (1, 0.25), "neighbours": (2, 0.5)}


class Paintedd(Randomizable, Transform):
    """An item of the training, or by chance an image painted from a label map in its place.

    It comes before ``DrawCubed``, and takes and gives the items of ``KeepTensorsd``.

    Args:
        data: folder of the data sets.
        share: how many of the items are painted.

    Raises:
        ValueError: a share that is not from 0 to 1; no label maps in the folder.
    """

    def __init__(self, data: str | Path, share: float = 0.4) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"share {share}: expected a share from 0 to 1")
        self.share = share
        self.maps = list(label_maps(Path(data)))
        counts = {source: sum(m.source == source for m in self.maps) for source in SOURCES}
        weights = np.array([SOURCES[m.source].share / counts[m.source] for m in self.maps])
        self.weights = weights / weights.sum()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        rng = np.random.default_rng(int(self.R.randint(2**31)))
        if rng.random() >= self.share:
            return dict(data)
        return {**self.painted(rng, data["size"]), "size": data["size"]}

    def painted(self, rng: np.random.Generator, size: int) -> dict[str, Any]:
        """An item for cubes of ``size`` voxels, tried until there is an object in it."""
        while True:
            item = painted_item(self.maps[rng.choice(len(self.maps), p=self.weights)], rng, size)
            if item is not None:
                return item


class Structures:
    """Names and tissues of the labels of a cut, which grow as things are added.

    Args:
        names: of the labels from 1.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = ["", *names]
        self.tissues = ["air", *(tissue(name) for name in names)]

    def add(self, name: str, kind: str) -> int:
        """A further label; of a name that is there already, it is a part of that structure."""
        self.names.append(name)
        self.tissues.append(kind)
        return len(self.names) - 1


def painted_item(source: LabelMap, rng: np.random.Generator, size: int) -> dict[str, Any] | None:
    """A part of the map around a random structure, or most of it, painted; None where no object is in it."""
    center = rng.choice(list(source.boxes))
    labels, spacing, low = cut(source, int(center), rng, size)
    values, counts = np.unique(labels[labels > 0], return_counts=True)
    kept = np.sort(values[np.argsort(-counts)][:MOST_STRUCTURES])
    kept = kept[np.isin(kept, list(source.names))]
    table = np.zeros(int(labels.max()) + 1, np.uint8)
    table[kept] = np.arange(1, len(kept) + 1)
    structures = Structures([source.names[int(v)] for v in kept])
    labels = table[labels]
    objects = plausible_objects(labels, structures, rng)
    put_around(source, labels, structures, spacing, low, rng)
    vary(labels, structures, rng)
    objects += add_findings(labels, structures, rng)
    # A structure that was split is asked for as a whole.
    by_name: dict[str, list[int]] = {}
    for label, name in enumerate(structures.names):
        by_name.setdefault(name, []).append(label)
    voxels = np.bincount(labels.reshape(-1), minlength=256)
    targets = {tuple(sorted({k for name in names for k in by_name[name]})) for names in objects}
    targets = tuple(sorted(t for t in targets if t and voxels[list(t)].sum() >= 2 * FEWEST_VOXELS))
    if not targets:
        return None
    ct, means = look(structures, rng)
    image = torch.from_numpy(paint(labels, rng, (ct, means)))[None]
    bounds = intensity_bounds(image)
    if ct and rng.random() < 0.3:
        # A window that a person would choose.
        level, width = rng.uniform(-50, 80), np.exp(rng.uniform(np.log(150), np.log(1500)))
        bounds = (level - width / 2, level + width / 2)
    return {
        "image": image,
        "label": torch.from_numpy(labels)[None],
        "affine": torch.diag(torch.tensor([spacing, spacing, spacing, 1.0], dtype=torch.float64)),
        "bounds": torch.tensor(bounds, dtype=torch.float64),
        "targets": targets,
        "name": f"painted {source.name}",
        "spacings": (0.7 * spacing, 1.3 * spacing),
    }


def cut(source: LabelMap, center: int, rng: np.random.Generator, size: int) -> tuple[np.ndarray, float, np.ndarray]:
    """A bent piece of the map, of about ``size`` voxels a side, around a voxel of a structure.

    Returns:
        labels, mm between its voxels, and where in the map (mm) its first voxel lies.
    """
    box = source.boxes[center]
    extent = max((b.stop - b.start) * s for b, s in zip(box, source.spacing, strict=True))
    whole = float((np.array(source.labels.shape) * source.spacing).max())
    wanted = size * np.exp(rng.uniform(np.log(0.12), np.log(0.8)))
    spacing = float(np.clip(extent / wanted, 0.7 * source.spacing.min(), whole / size))
    if rng.random() < 0.3:
        # As wide as the cube that is shown first at inference.
        spacing = min(192.0, whole) / size
    shape = rng.integers(int(0.85 * size), int(1.15 * size), 3)
    inside = np.argwhere(source.labels[box] == center)
    place = (inside[rng.integers(len(inside))] + [b.start for b in box]) * source.spacing
    low = place - spacing * (shape / 2 + rng.uniform(-0.2, 0.2, 3) * size)
    # Where the voxels lie in the map, one array an axis, in the form of numpy's open grids.
    places = [
        p / s
        for p, s in zip(
            np.ix_(*(low[i] + spacing * np.arange(shape[i]) for i in range(3))), source.spacing, strict=True
        )
    ]
    if rng.random() < 0.5:
        # Other heads than those of the map: bent by up to a few voxels.
        bend = spacing * size * rng.uniform(0.005, 0.025)
        places = [
            p + bend / s * smooth_field(rng, shape, rng.uniform(3, 6))
            for p, s in zip(places, source.spacing, strict=True)
        ]
    places = [np.rint(p).astype(np.int32) for p in places]
    beyond = False
    for p, n in zip(places, source.labels.shape, strict=True):
        beyond = beyond | (p < 0) | (p >= n)
    labels = source.labels[tuple(p.clip(0, n - 1) for p, n in zip(places, source.labels.shape, strict=True))]
    return np.where(beyond, 0, labels), spacing, low


def plausible_objects(labels: np.ndarray, structures: Structures, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Objects that one click could mean, each the names of its structures: a part, both sides, a tissue, the whole."""
    voxels = np.bincount(labels.reshape(-1), minlength=len(structures.names))
    seen = [i for i in range(1, len(structures.names)) if voxels[i] >= FEWEST_VOXELS]
    seen = [i for i in seen if not structures.names[i].startswith(("body", "unnamed"))]
    if not seen:
        return []
    names = [structures.names[i] for i in seen]
    kinds = {i: structures.tissues[i] for i in seen}
    sides: dict[str, list[str]] = {}
    for name in names:
        sides.setdefault(SIDES.sub("", name), []).append(name)
    by_tissue = {k: tuple(structures.names[i] for i in seen if kinds[i] == k) for k in set(kinds.values())}
    found = {
        "single": [(name,) for name in names],
        "sides": [tuple(pair) for pair in sides.values() if len(pair) > 1],
        "tissue": [t for t in by_tissue.values() if len(t) > 1],
        "brain": [tuple(n for i, n in zip(seen, names, strict=True) if kinds[i] in (*BRAIN, "fluid"))],
        "neighbours": _neighbours(labels, seen, structures, rng),
    }
    if len(found["brain"][0]) < 4:
        found["brain"] = []
    chosen = []
    for kind, (count, share) in ASKED.items():
        order = rng.permutation(len(found[kind]))[: count if rng.random() < share else 0]
        chosen += [found[kind][i] for i in order]
    return chosen


def _neighbours(
    labels: np.ndarray, seen: list[int], structures: Structures, rng: np.random.Generator
) -> list[tuple[str, ...]]:
    """Unions of two to four structures that touch each other."""
    sparse = labels[::2, ::2, ::2]
    beside: dict[int, set[int]] = {i: set() for i in seen}
    for axis in range(3):
        a, b = (np.moveaxis(sparse, axis, 0)[part] for part in (slice(1, None), slice(None, -1)))
        for x, y in np.unique(np.stack([a[a != b], b[a != b]]), axis=1).T:
            if x in beside and y in beside:
                beside[int(x)].add(int(y))
                beside[int(y)].add(int(x))
    unions = []
    for _ in range(ASKED["neighbours"][0]):
        union = {int(rng.choice(seen))}
        for _ in range(rng.integers(1, 4)):
            more = sorted(set().union(*(beside[i] for i in union)) - union)
            if more:
                union.add(int(rng.choice(more)))
        if len(union) > 1:
            unions.append(tuple(structures.names[i] for i in sorted(union)))
    return unions


def put_around(
    source: LabelMap,
    labels: np.ndarray,
    structures: Structures,
    spacing: float,
    low: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Tissue where the map names nothing: a neck's, or a skull with scalp around a brain."""
    around = SOURCES[source.source].around
    if around == "nothing" or rng.random() < 0.15:
        return
    size = np.array(source.labels.shape) * source.spacing
    radii = size / 2 * rng.uniform(1.08, 1.35, 3)
    if around == "neck":
        radii[2] = 10 * size[2]
    squared = sum(
        (((low[i] + spacing * np.arange(labels.shape[i]) - size[i] / 2) / radii[i]) ** 2).reshape(
            [-1 if j == i else 1 for j in range(3)]
        )
        for i in range(3)
    )
    hull = np.sqrt(squared) + 0.04 * smooth_field(rng, labels.shape, 4)
    free = labels == 0
    if around == "neck":
        bands = np.digitize(smooth_field(rng, labels.shape, rng.uniform(5, 14)), np.sort(rng.normal(0, 0.8, 4)))
        kinds = rng.permutation(["fat", "muscle", "organ", "muscle", "bone" if rng.random() < 0.5 else "air"])
        for band, kind in enumerate(kinds):
            labels[free & (hull < 1) & (bands == band)] = structures.add(f"around {band}", str(kind))
        return
    inner = rng.uniform(0.82, 0.9)
    for name, kind, top in (("fluid around", "fluid", inner), ("skull", "bone", inner + 0.07), ("scalp", "fat", 1.0)):
        new = structures.add(name, kind)
        where = free & (hull < top)
        labels[where] = new
        free &= ~where


def vary(labels: np.ndarray, structures: Structures, rng: np.random.Generator) -> None:
    """Split large structures into parts of several intensities; those that are a body or a brain as a whole always."""
    voxels = np.bincount(labels.reshape(-1), minlength=len(structures.names))
    for i in range(1, len(structures.names)):
        name = structures.names[i]
        coarse = name.startswith("body") or name == "brain"
        if voxels[i] < 2000 or not coarse and rng.random() > 0.04:
            continue
        parts = ("fat", "muscle", "organ") if name.startswith("body") else ("white", "grey", "fluid")
        field = smooth_field(rng, labels.shape, rng.uniform(5, 14) if coarse else rng.uniform(2, 6))
        bands = np.digitize(field, np.sort(rng.normal(0, 0.7, 2)) if coarse else [rng.normal(0, 0.5)])
        for band in range(1, 3 if coarse else 2):
            new = structures.add(name, parts[band] if coarse else structures.tissues[i])
            labels[(labels == i) & (bands == band)] = new


def add_findings(labels: np.ndarray, structures: Structures, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Lesions and vessels, drawn into the labels; the objects they make."""
    wanted = rng.integers(1, 4) if rng.random() < 0.35 else 0
    tubes = int(rng.random() < 0.12)
    if not wanted + tubes:
        return []
    scene = Scene(rng, labels.shape)
    scene.labels, scene.count = labels, len(structures.names) - 1
    objects = []
    hosts = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=len(structures.names)) > 1000)
    for host in rng.permutation(hosts[hosts > 0])[:wanted]:
        if draw_lesion(scene, int(host)):
            name = f"lesion {scene.count}"
            structures.add(name, "lesion")
            objects += [(name,), (name, structures.names[host])] if rng.random() < 0.3 else [(name,)]
    for _ in range(tubes):
        before = scene.count
        draw_tube(scene)
        for _ in range(scene.count - before):
            structures.add(f"vessel {before}", "vessel")
        objects.append((f"vessel {before}",))
    return objects


def look(structures: Structures, rng: np.random.Generator) -> tuple[bool, np.ndarray]:
    """Whether the image looks like CT, and the intensity of each label, as ``paint`` takes them."""
    # Both sides look alike, most times.
    alike = rng.random() < 0.9
    groups = [SIDES.sub("", n) if alike else n for n in structures.names]
    kind = rng.choice(["likely", "any", "by tissue"], p=[0.5, 0.3, 0.2])
    if kind != "likely":
        ct = rng.random() < 0.25
        keys = (
            structures.tissues
            if kind == "by tissue"
            else [f"{g}/{t}" for g, t in zip(groups, structures.tissues, strict=True)]
        )
        order = {key: i for i, key in enumerate(dict.fromkeys(["", *keys[1:]]))}
        drawn = (ct_means if ct else mr_means)(rng, len(order))
        means = drawn[[0, *(order[key] for key in keys[1:])]]
        if kind == "by tissue":
            means = means + _jitter(groups, 0.02 if ct else 0.04, rng)
        return ct, means.clip(0, 1).astype(np.float32)
    column = int(rng.choice([0, 1, 2, 3], p=[0.4, 0.2, 0.15, 0.25]))
    values = {t: float(row[1 + column]) for t, row in TISSUES.items()}
    ct = column == 3
    if ct:
        values = {t: (v + 1000) / 2000 for t, v in values.items()}
        contrast = rng.uniform(0, 0.08)
        values |= {"vessel": 0.52 + contrast, "organ": 0.515 + contrast * rng.uniform(0, 0.6)}
    else:
        values = {t: v + rng.normal(0, 0.06) for t, v in values.items()}
    means = np.array([values[t] for t in structures.tissues])
    means = means + _jitter(groups, 0.006 if ct else 0.035, rng)
    means[0] = 0
    return ct, means.clip(0, 1).astype(np.float32)


def _jitter(groups: list[str], deviation: float, rng: np.random.Generator) -> np.ndarray:
    each = {g: rng.normal(0, deviation) for g in dict.fromkeys(groups)}
    return np.array([each[g] for g in groups])


def page(data: Path, path: Path, count: int = 24, size: int = 96, seed: int = 0) -> None:
    """Write a PNG: slices of painted images through an object each, and its outline."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    paint_items = Paintedd(data, 1.0)
    columns = 6
    figure = Figure(figsize=(1.5 * columns, 1.55 * -(-count // columns)), dpi=70, layout="constrained")
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        item = paint_items.painted(rng, size)
        target = np.isin(item["label"][0].numpy(), item["targets"][rng.integers(len(item["targets"]))])
        z = int(target.sum(axis=(0, 1)).argmax())
        axes = figure.add_subplot(-(-count // columns), columns, i + 1)
        low, high = (float(b) for b in item["bounds"])
        axes.imshow(item["image"][0, ..., z].T, cmap="gray", vmin=low, vmax=high, origin="lower")
        axes.contour(target[..., z].T, [0.5], colors="red", linewidths=0.7)
        axes.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(path))


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.research.painted", description="A page of painted images.")
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("output", type=Path, help="the page, PNG")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    page(options.data, options.output, seed=options.seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
