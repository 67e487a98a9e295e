# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""From the items of a data list to cubes: volumes are loaded once, cubes are cut anew for every draw."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, Dataset, PersistentDataset
from monai.transforms import MapTransform, Randomizable, Transform
from tqdm import tqdm

from ..common.geometry import Grid
from ..common.intensity import NORMALISATIONS, intensity_bounds
from ..inference.zoom import first_spacing
from .cubes import Volume, drawn_cube, joined_targets, plain_cube

# Labels are kept as uint8.
MOST_CLASSES = 255


class KeepTensorsd(MapTransform):
    """What a cube is cut out of, as plain tensors that caches in memory and on disk can hold.

    After ``LoadVolumed`` and ``LoadLabelsd``. The item becomes ``image`` (1, X, Y, Z) float32, ``label`` (1, X, Y, Z)
    uint8 with the classes numbered from 1, ``values`` (C,) what they were, ``affine`` (4, 4) float64, ``bounds`` (2,)
    the intensities that count, ``targets``, the objects that may be asked for, each the numbers of its classes, and
    ``name``.

    Args:
        window: see :func:`..common.intensity.intensity_bounds`.
        joined: classes whose names share their first word, ``kidney_left`` and ``kidney_right``, are an object together
            too, see :func:`.cubes.joined_targets`.

    Raises:
        ValueError: too many classes.
    """

    def __init__(self, window: str | Sequence[float] = "auto", joined: bool = False) -> None:
        super().__init__(["image", "label"])
        self.window = window
        self.joined = joined

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        image, label = data["image"].as_tensor(), data["label"].as_tensor()
        name = str(data["label"].meta["filename_or_obj"])
        values, indices = label.unique(return_inverse=True)
        if len(values) > MOST_CLASSES:
            raise ValueError(f"{name}: {len(values)} different values; expected at most {MOST_CLASSES} classes")
        # Background is not always there, and is 0 in any case.
        numbered = indices if int(values[0]) == 0 else indices + 1
        values = values[values > 0]
        names = data.get("label_names") or {}
        names = {i: names[int(v)] for i, v in enumerate(values, start=1) if int(v) in names}
        numbers = list(range(1, len(values) + 1))
        return {
            "image": image,
            "label": numbered.to(torch.uint8),
            "values": values,
            "targets": joined_targets(numbers, names) if self.joined else tuple((i,) for i in numbers),
            "affine": torch.as_tensor(np.asarray(data["image"].affine, dtype=np.float64)),
            "bounds": torch.tensor(intensity_bounds(image, self.window), dtype=torch.float64),
            "name": name,
        }


class DrawCubed(Randomizable, Transform):
    """An item of ``KeepTensorsd`` -> a cube around an object of a random class, see :func:`.cubes.random_cube`.

    The result holds ``image`` (1, S, S, S), ``label`` (K, 1, S, S, S) uint8 and ``seed``, for later random steps.
    What an item itself says of ``size``, ``upright`` and ``spacings`` (see :func:`.cubes.random_cube`) counts.

    Args:
        size: voxels a side.
        spacing: mm between voxels of the cube that is shown first at inference, where the image is not smaller than
            that cube; three of ten cubes have the spacing of the first one. A cube of another size is as wide in mm.
        objects: K, how many objects of the cube are asked for; one may come twice where there are fewer.
        augment: random pose, scale and intensities; else the cube that shows the whole object, as it lies.
        normalisation: ``clipped``, or ``above_zero`` for SAM-Med3D's weights, as in the inferer.
        upright: how many of the augmented cubes keep the axes of the body, see :func:`.cubes.random_cube`.
    """

    def __init__(
        self,
        size: int = 128,
        spacing: float = 1.5,
        objects: int = 1,
        augment: bool = True,
        normalisation: str = "clipped",
        upright: float = 0.0,
    ) -> None:
        if size < 1 or objects < 1 or not spacing > 0:
            raise ValueError(f"cubes of {size} voxels at {spacing} mm, {objects} objects: expected positive numbers")
        self.size = size
        self.spacing = spacing
        self.objects = objects
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation {normalisation!r}: expected {' or '.join(NORMALISATIONS)}")
        if not 0 <= upright <= 1:
            raise ValueError(f"upright {upright}: expected a share of the cubes, 0 to 1")
        self.augment = augment
        self.normalisation = normalisation
        self.upright = upright

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[str, Any]:
        seed = int(self.R.randint(2**31))
        rng = np.random.default_rng(seed)
        grid = Grid(data["affine"].numpy(), tuple(data["image"].shape[1:]))
        targets, size = data["targets"], data.get("size", self.size)
        bounds = tuple(float(b) for b in data["bounds"])
        volume = Volume(data["image"], data["label"], grid, bounds, targets, data["name"])
        if self.augment:
            spacing = first_spacing(grid, size, self.spacing * self.size / size)
            upright, spacings = data.get("upright", self.upright), data.get("spacings")
            cube = drawn_cube(volume, rng, size, self.objects, spacing, self.normalisation, upright, spacings)
        else:
            cube = plain_cube(volume, targets[rng.integers(len(targets))], size, self.normalisation)
        return {"image": cube.image, "label": cube.targets, "seed": seed}


def loaded_dataset(
    data: Sequence[Mapping[str, Any]],
    transform: Callable[[Any], Any],
    cache_dir: str | None = None,
    progress: bool = True,
) -> Dataset:
    """MONAI's ``CacheDataset``, or ``PersistentDataset`` where a folder is given, all of it loaded here and now.

    Args:
        data: items.
        transform: deterministic ones.
        cache_dir: folder of the prepared items, for data that does not fit into memory.
        progress: show a progress bar.

    Raises:
        ValueError: what a transform found wrong with an item.
    """
    try:
        if cache_dir is None:
            return CacheDataset(list(data), transform, num_workers=1, progress=progress, copy_cache=False)
        dataset = PersistentDataset(list(data), transform, cache_dir, hash_func=_file_key, hash_transform=_settings_key)
        for index in tqdm(range(len(dataset)), desc="preparing", unit="volume", disable=not progress):
            dataset[index]
        return dataset
    except RuntimeError as error:
        # MONAI's wrappers name the transform, its cause the file.
        cause: BaseException = error
        while str(cause).startswith("applying transform") and cause.__cause__ is not None:
            cause = cause.__cause__
        raise cause from None


def _file_key(item: Mapping[str, Any]) -> bytes:
    """A key of an item's files as they are now."""
    stamps = [(item[k], Path(item[k]).stat().st_mtime_ns) for k in ("image", "label")]
    return hashlib.sha256(repr(stamps).encode()).hexdigest()[:32].encode()


def _settings_key(transforms: Sequence[Any]) -> bytes:
    """A key of a preparation: the names of its transforms, and their plain settings."""
    plain = (str, int, float, list, tuple, type(None))
    settings = [(type(t).__name__, {k: v for k, v in vars(t).items() if isinstance(v, plain)}) for t in transforms]
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:16].encode()
