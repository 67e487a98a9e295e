# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What each precision does to masks: Dice against float32 over objects of real volumes, and the time of a click."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from bundles.fastsam3d.scripts.inference.decoding import CubeMemory, CubePrompt, decode_clicks
from bundles.fastsam3d.scripts.inference.speed.fast_path import prepare_for_inference
from common.clicks import deepest_point, error_click
from common.geometry import Grid, cube_around, resample
from common.intensity import intensity_bounds, normalise
from common.precision import computes_bfloat16
from common.weights import load_weights
from tools.benchmark.timing import Contestant
from tools.bundle_network import BUNDLE, build_network
from tools.evaluation_sets import never_trained_on
from tools.labelled_volumes import Volume, real_volumes

AGAINST = "float32"
DATA = BUNDLE.parents[2] / "shared" / "data"
# The first ones of each set, those of fewer voxels left out; made-up volumes where there are no sets.
OBJECTS, FEWEST_VOXELS, MADE_UP = 12, 200, 6
# As in inference.json.
ROUNDS = 3
# What a default precision has to keep.
BAR = 0.995


class Case(NamedTuple):
    """Two clicks on an object.

    Attributes:
        name: set, case and labels.
        cube: (1, 1, S, S, S) normalised intensities.
        points: (2, 3) voxels of the cube: the deepest one of the object, and one in the error that follows.
        labels: (2,).
        masks: of the network in float32 after the first and the second click.
    """

    name: str
    cube: Tensor
    points: Tensor
    labels: Tensor
    masks: list[Tensor]


def about(quick: bool) -> str:
    """What is measured, in a line."""
    where = DATA.parent.name + "/data" if DATA.is_dir() else "made-up volumes"
    return (
        "tiny made-up volumes"
        if quick
        else f"Dice against float32 of each precision, up to {OBJECTS} objects a set, {where}"
    )


def contestants(device: torch.device, quick: bool) -> list[Contestant]:
    """A row for each precision: a click, and ``dice`` over all cases after both clicks."""
    network = build_network().to(device).eval()
    if (BUNDLE / "models" / "model.pt").exists():
        load_weights(network, BUNDLE / "models" / "model.pt")
    names = ["float32", "mixed", "bfloat16", *([] if device.type == "cpu" else ["float16"])]
    networks = {name: prepare_for_inference(network, name) for name in names}
    dice: dict[str, list[tuple[float, str]]] = {name: [(1.0, "")] if name == AGAINST else [] for name in names}
    with tqdm(desc="objects", disable=quick, leave=False) as bar:
        for case in cases(networks["float32"], device, quick):
            for name in names[1:]:
                masks = answers(networks[name], CubeMemory(networks[name].encode(case.cube)), case.points, case.labels)
                dice[name] += [(_dice(a, b), case.name) for a, b in zip(masks, case.masks, strict=True)]
            bar.update()
    rows = []
    for name in names:
        (low, worst), values = min(dice[name]), [d for d, _ in dice[name]]
        middle, below = float(np.median(values)), sum(d < BAR for d in values)
        click = CubePrompt(case.points, case.labels, mask=torch.zeros(1, *_cells(case.cube), device=device), at_once=2)
        embedding = networks[name].encode(case.cube)
        rows.append(
            Contestant(
                name,
                lambda n=networks[name], e=embedding, p=click: decode_clicks(n, CubeMemory(e), [p], ROUNDS),
                note=f"Dice {low:.4f} ({worst}) to 1, median {middle:.4f}; {below} of {len(values)} masks below {BAR}"
                if worst
                else "what the others are held to",
                extra={"dice_min": low, "dice_median": middle, "masks": len(values), "masks_below_bar": below},
            )
        )
    if not computes_bfloat16(device):
        print("this processor emulates bfloat16: the times of its rows say nothing")
    return rows


def cases(network: nn.Module, device: torch.device, quick: bool) -> Iterator[Case]:
    """Objects in a cube around their deepest voxel, at 1.5 mm, clicked as ``network`` needs it."""
    size, seen = 32 if quick else 128, Counter()
    for volume in _volumes(quick):
        for target in volume.targets:
            group = volume.name.split("/")[0]
            mask = torch.isin(volume.labels, torch.tensor(target, dtype=torch.uint8))
            if seen[group] >= (1 if quick else OBJECTS) or int(mask.sum()) < FEWEST_VOXELS:
                continue
            seen[group] += 1
            yield _case(network, volume, mask, f"{volume.name} {target}", size, device)


def _volumes(quick: bool) -> list[Volume]:
    if DATA.is_dir() and not quick:
        return [*real_volumes(DATA), *real_volumes(DATA, validation=True), *never_trained_on(DATA)]
    rng = np.random.default_rng(0)
    return [_made_up(rng, 48 if quick else 128) for _ in range(1 if quick else MADE_UP)]


def _made_up(rng: np.random.Generator, size: int) -> Volume:
    """Three ellipsoids in noise, at 1 mm."""
    image, labels = rng.normal(0, 20, (size,) * 3), np.zeros((size,) * 3, np.uint8)
    for label in (1, 2, 3):
        center, radii = rng.uniform(0.25, 0.75, 3) * size, rng.uniform(0.1, 0.25, 3) * size
        inside = (((np.indices(image.shape).T - center) / radii) ** 2).sum(-1).T < 1
        labels[inside] = label
        image[inside] += rng.uniform(50, 150)
    voxels = torch.from_numpy(image)[None].float()
    grid = Grid(np.eye(4), image.shape)
    targets = tuple((int(k),) for k in np.unique(labels) if k)
    return Volume(voxels, torch.from_numpy(labels)[None], grid, intensity_bounds(voxels), targets, "made up")


def _case(network: nn.Module, volume: Volume, mask: Tensor, name: str, size: int, device: torch.device) -> Case:
    center = volume.grid.to_mm(np.array(deepest_point(mask[0].numpy())))
    cube = cube_around(center, 1.5, size)
    values, inside = resample(volume.image, volume.grid, cube)
    truth = (resample(mask, volume.grid, cube, mode="nearest")[0][0] > 0.5) & inside
    values = normalise(values, inside, volume.bounds)[None].to(device)
    points, labels = torch.from_numpy(cube.to_voxels(center)[None]).float(), torch.ones(1, dtype=torch.long)
    memory = CubeMemory(network.encode(values))
    first = answers(network, memory, points.to(device), labels.to(device))[0]
    click = error_click(first.cpu().numpy(), truth.numpy())
    if click:
        points = torch.cat([points, torch.tensor([click.voxel]).float()])
        labels = torch.cat([labels, torch.tensor([click.label])])
    points, labels = points.to(device), labels.to(device)
    return Case(name, values, points, labels, answers(network, memory, points, labels))


def answers(network: nn.Module, memory: CubeMemory, points: Tensor, labels: Tensor) -> list[Tensor]:
    """(S, S, S) bool: the mask in the memory's cube after each click."""
    prompts = [CubePrompt(points[:k], labels[:k]) for k in range(1, len(points) + 1)]
    logits = [decode_clicks(network, memory, [p], ROUNDS)[0][0] for p in prompts]
    size = memory.embedding.image_size
    return [F.interpolate(x[None], size=size, mode="trilinear")[0, 0] > 0 for x in logits]


def _cells(cube: Tensor) -> list[int]:
    return [n // 2 for n in cube.shape[2:]]


def _dice(a: Tensor, b: Tensor) -> float:
    total = int(a.sum() + b.sum())
    return float(2 * (a & b).sum() / total) if total else 1.0
