# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What each documented prompt of ``fastsam3d`` gives, and whether further right clicks ever make a mask worse.

::

    python -m tools.research.prompts alone ../shared/data
    python -m tools.research.prompts further ../shared/data --json runs/further.json

Measured on development objects: organs of volumes that may train shipped weights, none of those that the card reports.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import LoadImage
from scipy import ndimage
from tqdm import tqdm

from bundles.fastsam3d.scripts.inference.segment import Segmentation, Segmenter
from common.clicks import deepest_point, error_click
from common.geometry import Grid
from common.weights import load_weights
from tools.bundle_network import BUNDLE, build_network

# Image and label map of each volume, below the data folder.
VOLUMES = {
    "openkbp/pt_100": ("openkbp/pt_100_ct.nii.gz", "openkbp/pt_100_label.nii.gz"),
    "openkbp/pt_101": ("openkbp/pt_101_ct.nii.gz", "openkbp/pt_101_label.nii.gz"),
    "sunnybrook_lv/01": ("sunnybrook_lv/SC-HF-I-01_ed_image.nii.gz", "sunnybrook_lv/SC-HF-I-01_ed_label.nii.gz"),
    "sunnybrook_lv/02": ("sunnybrook_lv/SC-HF-I-02_es_image.nii.gz", "sunnybrook_lv/SC-HF-I-02_es_label.nii.gz"),
    "hippocampus/first": ("msd_hippocampus/images", "msd_hippocampus/labels"),
    "totalseg/ct": ("totalseg_example/example_ct.nii.gz", "totalseg_example/example_seg_fast_force_split.nii.gz"),
    "colin27": ("mricron_brains/colin27_t1_image.nii.gz", "mricron_brains/colin27_aal_label.nii.gz"),
}
# Of each volume, the largest ones and every so many others; smaller ones are no development objects.
OBJECTS, FEWEST_VOXELS = 8, 150
# A further click that costs more Dice than this made the mask worse.
WORSE = 0.03
CLICKS = 10
SCORED = (1, 3, 5, 10)


class Labelled(NamedTuple):
    """An object to segment.

    Attributes:
        name: of its volume, and its label.
        image: (X, Y, Z) float32.
        grid: where the voxels lie.
        truth: (X, Y, Z) bool.
    """

    name: str
    image: torch.Tensor
    grid: Grid
    truth: np.ndarray


def development_objects(data: Path, each: int = OBJECTS) -> Iterator[Labelled]:
    """Up to ``each`` objects of each volume of VOLUMES, spread over its labels by size."""
    load = LoadImage(image_only=True)
    for name, pair in VOLUMES.items():
        image, label = (
            next(iter(sorted(p.glob("*.nii.gz"))), p) if p.is_dir() else p for p in (data / f for f in pair)
        )
        if not image.is_file():
            continue
        voxels, labels = load(image), load(label).as_tensor().numpy().round().astype(int)
        grid = Grid(np.asarray(voxels.affine, dtype=np.float64), tuple(voxels.shape))
        counts = np.bincount(labels.ravel())
        counts[0] = 0
        by_size = [int(v) for v in counts.argsort()[::-1] if counts[v] >= FEWEST_VOXELS]
        chosen = by_size if len(by_size) <= each else by_size[:: -(-len(by_size) // each)]
        for value in sorted(chosen):
            yield Labelled(f"{name} {value}", voxels.as_tensor().float(), grid, labels == value)


class Engine:
    """The engine of inference.json with the shipped weights.

    Args:
        settings: other values of its options.
    """

    def __init__(self, **settings: Any) -> None:
        config = ConfigParser.load_config_file(str(BUNDLE / "configs" / "inference.json"))
        options = {k: config[v[1:]] for k, v in config["inferer"].items() if not k.startswith("_")}
        self.segmenter = Segmenter(**{**options, **settings})
        self.network = build_network().eval()
        load_weights(self.network, BUNDLE / "models" / "model.pt")

    def __call__(self, thing: Labelled, prompts: dict[str, Any], **masks: np.ndarray) -> Segmentation:
        """Masks by the names that the prompts give them."""
        return self.segmenter.segment(thing.image, thing.grid.affine, prompts, self.network, masks, content=thing.name)


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """Of two masks, one of them not empty."""
    return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))


# ---- every prompt alone


def _box(mask: np.ndarray) -> list[list[int]]:
    voxels = np.argwhere(mask)
    return [voxels.min(axis=0).tolist(), voxels.max(axis=0).tolist()]


def _flat_box(thing: Labelled, slices: int) -> list[list[int]]:
    """Around what ``slices`` slices across the coarsest axis show of the object, in its middle."""
    axis = int(np.argmax(thing.grid.spacing))
    middle, extent = deepest_point(thing.truth, thing.grid.spacing)[axis], np.argwhere(thing.truth)[:, axis]
    first = int(np.clip(middle - slices // 2, extent.min(), max(extent.min(), extent.max() + 1 - slices)))
    part = np.zeros_like(thing.truth)
    cut = tuple(slice(first, first + slices) if k == axis else slice(None) for k in range(3))
    part[cut] = thing.truth[cut]
    return _box(part)


def _stroke(thing: Labelled) -> np.ndarray:
    """A line through the deepest voxel along the longer side of its slice, with 1, as far as the object goes."""
    place = deepest_point(thing.truth, thing.grid.spacing)
    lines = [tuple(slice(None) if k == axis else place[k] for k in range(3)) for axis in range(3)]
    stroke = np.zeros(thing.truth.shape, dtype=np.uint8)
    longest = max(lines, key=lambda line: int(thing.truth[line].sum()))
    stroke[longest] = thing.truth[longest]
    return stroke


def _spoiled(thing: Labelled, how: str) -> np.ndarray:
    """The truth as somebody may have drawn it: in full, too small by a layer, or with a lump beside it."""
    if how == "whole":
        return thing.truth
    if how == "eroded":
        smaller = ndimage.binary_erosion(thing.truth)
        return smaller if smaller.any() else thing.truth
    lump = np.zeros_like(thing.truth)
    lump[_beside(thing)] = True
    radius = max(2.0, 0.3 * (thing.truth.sum() * np.prod(thing.grid.spacing)) ** (1 / 3))
    return thing.truth | (ndimage.distance_transform_edt(~lump, thing.grid.spacing) <= radius)


def _beside(thing: Labelled) -> tuple[int, ...]:
    """A voxel outside the object, some mm from its border."""
    far = ndimage.distance_transform_edt(~thing.truth, thing.grid.spacing)
    wanted = max(float(thing.grid.spacing.max()), 0.2 * (thing.truth.sum() * np.prod(thing.grid.spacing)) ** (1 / 3))
    return tuple(int(i) for i in np.unravel_index(int(np.abs(far - wanted).argmin()), far.shape))


def prompts_alone(thing: Labelled) -> dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Every documented prompt: what is asked, and the masks that it names."""
    click = list(deepest_point(thing.truth, thing.grid.spacing))
    beside = list(_beside(thing))
    forms: dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]] = {
        "click": ({"foreground": [click]}, {}),
        "click and background": ({"foreground": [click], "background": [beside]}, {}),
        "box": ({"box": _box(thing.truth)}, {}),
        "box and click": ({"box": _box(thing.truth), "foreground": [click]}, {}),
        "box and background": ({"box": _box(thing.truth), "background": [beside]}, {}),
        **{f"box of {n} slices": ({"box": _flat_box(thing, n)}, {}) for n in (1, 2, 3, 4)},
        "scribble": ({"scribble": "stroke"}, {"stroke": _stroke(thing)}),
    }
    for how in ("whole", "eroded", "lump"):
        mask = {"last": _spoiled(thing, how)}
        forms[f"last mask, {how}"] = ({"previous_mask": "last"}, mask)
        forms[f"last mask, {how}, background"] = ({"previous_mask": "last", "background": [beside]}, mask)
    forms["last mask, eroded, click"] = (
        {"previous_mask": "last", "foreground": [click]},
        {"last": _spoiled(thing, "eroded")},
    )
    return forms


def measure_alone(engine: Engine, thing: Labelled) -> dict[str, dict[str, float]]:
    """For each prompt the Dice of the mask, and of the mask that was given, if any."""
    rows = {}
    for name, (asked, masks) in prompts_alone(thing).items():
        row = {"dice": dice((engine(thing, asked, **masks).labels > 0).numpy(), thing.truth)}
        if "last" in masks:
            row["given"] = dice(masks["last"], thing.truth)
        rows[name] = row
    return rows


# ---- further right clicks


def measure_further(engine: Engine, thing: Labelled, count: int = CLICKS) -> dict[str, list[dict[str, Any]]]:
    """Dice after each of ``count`` clicks, by two people.

    ``inside`` clicks anywhere in the object, also where the mask has it already: all of its clicks are right.
    ``errors`` clicks as evaluate.json does, in the deepest point of the largest error.
    """
    spacing = thing.grid.spacing
    rng, voxels = np.random.default_rng(0), np.argwhere(thing.truth)
    people: dict[str, Callable[[np.ndarray], tuple[Sequence[int], int] | None]] = {
        "inside": lambda mask: (voxels[rng.integers(len(voxels))].tolist(), 1),
        "errors": lambda mask: error_click(mask, thing.truth, spacing=spacing),
    }
    found = {}
    for name, person in people.items():
        clicks, labels, rows = [list(deepest_point(thing.truth, spacing))], [1], []
        while True:
            mask = (engine(thing, {"points": clicks, "point_labels": labels}).labels > 0).numpy()
            rows.append({"label": labels[-1], "dice": dice(mask, thing.truth)})
            click = person(mask) if len(clicks) < count else None
            if click is None:
                break
            rows[-1]["next_is_inside"] = bool(mask[tuple(click[0])])
            clicks.append([int(i) for i in click[0]])
            labels.append(int(click[1]))
        found[name] = rows
    return found


# ---- tables


def table_alone(rows: dict[str, dict[str, dict[str, float]]]) -> str:
    """Markdown: a row for each prompt, over all objects."""
    lines = [
        "| prompt | objects | mean Dice | median | lowest | below 0.1 | mean of the mask given |",
        "|" + "---|" * 7,
    ]
    for name in next(iter(rows.values())):
        scores = [r[name]["dice"] for r in rows.values()]
        given = [r[name]["given"] for r in rows.values() if "given" in r[name]]
        values = [np.mean(scores), np.median(scores), min(scores)]
        shown = " | ".join(f"{v:.3f}" for v in values)
        low = sum(s < 0.1 for s in scores)
        lines.append(f"| {name} | {len(scores)} | {shown} | {low} | {f'{np.mean(given):.3f}' if given else ''} |")
    return "\n".join(lines)


def table_further(rows: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """Markdown: for each person how many right clicks made a mask worse, and the mean Dice after some clicks."""
    scored = [f"Dice@{k}" for k in SCORED]
    lines = [f"| clicks | further right clicks | worse by {WORSE} | objects with one | {' | '.join(scored)} |"]
    lines.append("|" + "---|" * (4 + len(SCORED)))
    for person in ("inside", "errors"):
        series = [r[person] for r in rows.values()]
        # A click is right wherever it is on the object; those on the background are right too, and are counted alike.
        losses = [[a["dice"] - b["dice"] for a, b in zip(s[:-1], s[1:], strict=True)] for s in series]
        steps = sum(len(s) for s in losses)
        worse, hurt = sum(x > WORSE for s in losses for x in s), sum(max(s, default=0) > WORSE for s in losses)
        means = [np.mean([s[min(k, len(s)) - 1]["dice"] for s in series]) for k in SCORED]
        shares = f"{worse} ({worse / max(1, steps):.1%}) | {hurt} of {len(series)}"
        lines.append(f"| {person} | {steps} | {shares} | {' | '.join(f'{m:.3f}' for m in means)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(arguments)
    things = list(development_objects(options.data, options.objects))
    if not things:
        print(
            f"python -m tools.research.prompts: {options.data}: none of {', '.join(VOLUMES)} is there", file=sys.stderr
        )
        return 1
    measure, table = {"alone": (measure_alone, table_alone), "further": (measure_further, table_further)}[options.what]
    torch.set_num_threads(1)
    engine, rows = Engine(**dict(options.override)), {}
    for thing in tqdm(things, unit="object"):
        rows[thing.name] = measure(engine, thing)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))
    return 0


def _override(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    return name, json.loads(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.research.prompts", description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("alone", "further"), help="each prompt alone, or further right clicks")
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--objects", type=int, default=OBJECTS, help="of each volume at most (default %(default)s)")
    parser.add_argument("--json", type=Path, help="where every single figure goes")
    parser.add_argument(
        "--override",
        type=_override,
        action="append",
        default=[],
        metavar="OPTION=JSON",
        help="another value of an option of the engine, such as rounds=1",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
