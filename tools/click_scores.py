# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""How good weights are on volumes they never saw: Dice after simulated clicks in one cube.

Deepest-point clicks, a cube of 1.5 mm around the first one, Dice at the cube's resolution: a quick look. What the
workflow reaches on the image's own grid is the business of the bundle's evaluation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bundles.fastsam3d.scripts.training.cubes import Volume
from common.clicks import deepest_point, error_click
from common.geometry import Grid, cube_around, resample
from common.intensity import intensity_bounds, normalise
from tools.training_cubes import read_volume, real_volumes

LARGEST_LOGIT = 10.0
# Objects of a set that are looked at, the first ones in order.
OBJECTS = 8


def score_sets(
    network: nn.Module, data: Path, clicks: Sequence[int] = (1, 3, 5), rounds: int = 1
) -> dict[str, dict[int, float]]:
    """Mean Dice of each set after some numbers of clicks.

    Args:
        network: offers ``encode`` and ``decode``.
        data: folder of the sets.
        clicks: numbers of clicks to report.
        rounds: how often the decoder is asked for each click.
    """
    scores = defaultdict(list)
    for volume in (*real_volumes(data, validation=True), *evaluation_volumes(data)):
        name = volume.name.split("/")[0]
        for target in volume.targets:
            if len(scores[name]) < OBJECTS:
                dice = score_object(network, volume, target, max(clicks), rounds)
                scores[name].append([dice[k - 1] for k in clicks])
    return {name: dict(zip(clicks, np.mean(rows, axis=0), strict=True)) for name, rows in scores.items()}


def evaluation_volumes(data: Path) -> Iterator[Volume]:
    """Volumes that must never train a shipped weight: the MNI152 template where nilearn is installed, and BraTS."""
    try:
        from nilearn import datasets
    except ImportError:
        datasets = None
    if datasets:
        template, grey, white = (
            getattr(datasets, f"load_mni152_{kind}")(resolution=1)
            for kind in ("template", "gm_template", "wm_template")
        )
        brain = (grey.get_fdata() + white.get_fdata() > 0.5).astype(np.uint8)
        image = torch.from_numpy(template.get_fdata(dtype=np.float32))[None]
        grid = Grid(np.asarray(template.affine, dtype=np.float64), image.shape[1:])
        yield Volume(image, torch.from_numpy(brain)[None], grid, intensity_bounds(image), ((1,),), "mni152_brain")
    for patient in sorted((data / "brats").glob("brats_*")):
        image = patient / "Flair_subtrMeanDivStd.nii.gz"
        yield read_volume(image, patient / "OTMultiClass.nii.gz", "brats_tumour", {1: "t", 2: "t", 3: "t", 4: "t"})


@torch.no_grad()
def score_object(
    network: nn.Module, volume: Volume, target: Sequence[int], clicks: int, rounds: int = 1
) -> list[float]:
    """Dice in the cube after each of ``clicks`` clicks, the decoder asked ``rounds`` times for each."""
    mask = torch.isin(volume.labels, torch.tensor(target, dtype=torch.uint8))
    center = volume.grid.to_mm(np.array(deepest_point(mask[0].numpy())))
    cube = cube_around(center, 1.5, 128)
    values, inside = resample(volume.image, volume.grid, cube)
    truth = (resample(mask, volume.grid, cube, mode="nearest")[0][0] > 0.5) & inside
    embedding = network.encode(normalise(values, inside, volume.bounds)[None])
    points, labels = [tuple(cube.to_voxels(center))], [1]
    logits, scores = None, []
    for _ in range(clicks):
        for _ in range(rounds):
            last = None if logits is None else logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
            logits, _ = network.decode(embedding, torch.tensor([points]).float(), torch.tensor([labels]), masks=last)
        prediction = F.interpolate(logits, size=cube.shape, mode="trilinear")[0, 0] > 0
        scores.append(_dice(prediction, truth))
        click = error_click(prediction.numpy(), truth.numpy())
        if click:
            points.append(click.voxel)
            labels.append(click.label)
    return scores


def _dice(a: Tensor, b: Tensor) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()).clamp(min=1))
