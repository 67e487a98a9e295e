# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Images and masks that the shipped weights of ``ssam_2d`` are trained on, as PNG files with MONAI data lists.

::

    python -m tools.research.ssam_images --data ../shared/data --output runs/ssam_images

Only sets whose licence lets a shipped weight be trained on them are named here. ``base.json`` lists all images, with
masks whose every value is an object of some kind; ``default.json`` lists those whose values have names, and keeps a
part for validation and for the test, none of which the other list trains on.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from common.intensity import intensity_bounds
from tools.research.synthetic_volumes import paint, smooth_field, synthetic_volume

# Colours of the masks of two sets, and what each of them is called in the default weights.
BREAST = {(0, 255, 0): "benign breast lesion", (255, 0, 0): "malignant breast lesion"}
ENDOSCOPY = {
    (0, 255, 255): "Barrett's esophagus",
    (255, 0, 0): "cancer",
    (10, 128, 10): "high-grade dysplasia",
    (200, 0, 200): "polyp",
    (40, 40, 255): "suspicious",
}
# TotalSegmentator's names, as patterns, of the main organs.
ORGANS = {
    "liver": "liver",
    "spleen": "spleen",
    "kidney_right": "right kidney",
    "kidney_left": "left kidney",
    "stomach": "stomach",
    "gallbladder": "gallbladder",
    "small_bowel": "small bowel",
    "colon": "colon",
    "urinary_bladder": "urinary bladder",
    "aorta": "aorta",
    "inferior_vena_cava": "inferior vena cava",
    "vertebrae_.*|sacrum": "spine",
    "hip_(left|right)": "hip bone",
    "femur_(left|right)": "femur",
}
NAMES = (*BREAST.values(), *ENDOSCOPY.values(), *ORGANS.values())
# Of every ten images in a row, by their place among the ten.
PARTS = {3: "validation", 7: "test", 8: "test"}
# Slices of one volume are alike: held out are whole runs of this many neighbours.
RUN = 5
# Slices of a volume on which less than this share is labelled are left out.
LEAST_SHARE = 0.004
MADE_UP, PAINTED = "made_up_", "painted_"
# Pixels of the longer side; larger images are made smaller, as the network sees 256.
LARGEST = 384
# How often a real image comes in an epoch of the base's training, a made-up one once: slices of a volume, of which many
# are alike, and pictures.
SLICE_TIMES, PICTURE_TIMES = 4, 10
# Hounsfield units that part what has no label in a CT: air, fat, soft tissue, bone.
TISSUES = (-300, -30, 180)
# How far a patient's organs are moved before they are painted, in voxels: one standard deviation.
MOVED = 2.5


class Picture(NamedTuple):
    """One image with its masks.

    Attributes:
        name: of its files.
        image: (H, W) or (H, W, 3) uint8.
        objects: (H, W) uint8; every value above 0 is an object.
        labels: (H, W) uint8; value i is NAMES[i - 1]. None where the objects have no names.
        part: training, validation or test.
    """

    name: str
    image: np.ndarray
    objects: np.ndarray
    labels: np.ndarray | None = None
    part: str = "training"


def pictures(folder: Path) -> Iterator[Picture]:
    """All real pictures below a data folder; sets that are missing are left out."""
    yield from coloured(folder / "busi_breast_us", BREAST)
    yield from coloured(folder / "edd2020_endoscopy", ENDOSCOPY)
    yield from nuclei(folder / "dsb2018_nuclei")
    yield from named_files(folder / "sam_med2d_demo")
    total = folder / "totalseg_example"
    if total.is_dir():
        tables = json.loads((total / "labels.json").read_text())
        ct = total / "example_ct.nii.gz", total / "example_seg_fast_force_split.nii.gz"
        yield from slices("totalseg_ct", *ct, names=tables["total"])
        yield from slices("totalseg_mr", total / "example_mr_sm.nii.gz", total / "example_seg_mr.nii.gz", axes=(2,))
    for patient in sorted((folder / "sts_sarcoma").glob("STS_*")):
        for kind in ("CT", "MR_T1"):
            pair = patient / f"{kind}_image.nii.gz", patient / f"{kind}_mask.nii.gz"
            yield from slices(f"sarcoma_{patient.name}_{kind}", *pair, axes=(2,), step=2)
    cord = folder / "sct_spinalcord"
    if cord.is_dir():
        yield from slices("cord_t2", cord / "t2/t2.nii.gz", cord / "t2/t2_seg-manual.nii.gz", axes=(2,), step=4)
        yield from slices("cord_t2s", cord / "t2s/t2s.nii.gz", cord / "t2s/t2s_gmseg_manual.nii.gz", axes=(2,))


def part(number: int) -> str:
    """Whether the image of this number, in the order of a set, trains or is held out."""
    return PARTS.get(number % 10, "training")


def coloured(folder: Path, colours: dict[tuple[int, ...], str]) -> Iterator[Picture]:
    """A folder with images/ and masks/ in colours."""
    for i, file in enumerate(sorted((folder / "images").glob("*"))):
        mask = np.asarray(Image.open(folder / "masks" / file.name).convert("RGB"))
        labels = np.zeros(mask.shape[:2], np.uint8)
        for colour, name in colours.items():
            labels[(mask == colour).all(-1)] = NAMES.index(name) + 1
        image = np.asarray(Image.open(file).convert("RGB"))
        yield Picture(f"{folder.name}_{file.stem}", image, labels, labels, part(i))


def nuclei(folder: Path) -> Iterator[Picture]:
    """Microscopy images; the largest 255 nuclei of each."""
    for file in sorted((folder / "images").glob("*")):
        instances = np.asarray(Image.open(folder / "instances" / file.name)).astype(np.int64)
        sizes = np.bincount(instances.ravel())
        sizes[0] = 0
        table = np.zeros(len(sizes), np.uint8)
        for value, instance in enumerate(np.argsort(-sizes)[:255], start=1):
            table[instance] = value if sizes[instance] else 0
        yield Picture(f"nuclei_{file.stem}", np.asarray(Image.open(file).convert("RGB")), table[instances])


def named_files(folder: Path) -> Iterator[Picture]:
    """Slices with one binary mask for each object; the smaller objects lie over the larger."""
    for file in sorted((folder / "images").glob("*.png")):
        masks = [np.asarray(Image.open(m).convert("L")) > 127 for m in sorted(folder.glob(f"masks/{file.stem}_*.png"))]
        objects = np.zeros(Image.open(file).size[::-1], np.uint8)
        for value, mask in enumerate(sorted(masks, key=np.sum, reverse=True), start=1):
            objects[mask] = value
        if objects.any():
            yield Picture(f"med2d_{file.stem}", np.asarray(Image.open(file).convert("RGB")), objects)


def slices(
    name: str, image: Path, mask: Path, axes: tuple[int, ...] = (0, 1, 2), step: int = 1, names: dict | None = None
) -> Iterator[Picture]:
    """Slices of a volume, seen from the patient's feet, front and left; the axial ones have names.

    Args:
        name: of the volume.
        image, mask: the files.
        axes: of RAS that the slices are normal to.
        step: every how many slices.
        names: of the mask's values, where they are to be named.
    """
    volume, objects = (nib.as_closest_canonical(nib.load(file)) for file in (image, mask))
    spacing = np.asarray(volume.header.get_zooms()[:3])
    voxels = np.ascontiguousarray(volume.dataobj, dtype=np.float32)
    objects = np.asarray(objects.dataobj).round().astype(np.uint8)
    low, high = intensity_bounds(torch.from_numpy(voxels))
    grey = (255 * ((voxels - low) / (high - low)).clip(0, 1)).astype(np.uint8)
    labels = renamed(objects, names or {})
    for axis in axes:
        for number in range(0, voxels.shape[axis], step):
            planes = [np.take(array, number, axis) for array in (grey, objects, labels)]
            if (planes[1] > 0).mean() < LEAST_SHARE:
                continue
            across, up = np.delete(spacing, axis)
            grey_plane, *masks = (as_seen(plane, up / across) for plane in planes)
            named = masks[1] if names and axis == 2 else None
            held = part(number // RUN) if named is not None else "training"
            yield Picture(f"{name}_{'xyz'[axis]}{number:03d}", grey_plane, masks[0], named, held)


def renamed(objects: np.ndarray, names: dict[str, str]) -> np.ndarray:
    """The same mask with the values of NAMES, 0 for what is not among them."""
    table = np.zeros(256, np.uint8)
    for value, name in names.items():
        for pattern, wanted in ORGANS.items():
            if re.fullmatch(pattern, name):
                table[int(value)] = NAMES.index(wanted) + 1
    return table[objects]


def as_seen(plane: np.ndarray, stretch: float) -> np.ndarray:
    """(right to left or back to front, up) as rows from the top and columns from the patient's right or front.

    Pixels become square: ``stretch`` is their height over their width.
    """
    rows = np.ascontiguousarray(plane[::-1, ::-1].T)
    if abs(stretch - 1) < 0.05:
        return rows
    size = rows.shape[1], max(1, round(rows.shape[0] * stretch))
    return np.asarray(Image.fromarray(rows).resize(size, Image.Resampling.NEAREST))


def made_up(seed: int, volumes: int, each: int, size: int = 160) -> Iterator[Picture]:
    """Slices of made-up volumes, in all three directions, the same for the same seed."""
    for number in range(volumes):
        rng = np.random.default_rng((seed, number))
        volume = synthetic_volume(rng, rng.integers(int(0.6 * size), size, 3))
        low, high = intensity_bounds(torch.from_numpy(volume.image))
        grey = (255 * ((volume.image - low) / (high - low)).clip(0, 1)).astype(np.uint8)
        for i in range(each):
            axis = int(rng.integers(3))
            at = int(rng.uniform(0.15, 0.85) * grey.shape[axis])
            image, objects = (np.ascontiguousarray(np.take(a, at, axis)) for a in (grey, volume.labels))
            if (objects > 0).mean() >= LEAST_SHARE:
                yield Picture(f"{MADE_UP}{number:04d}_{i}", image, objects)


def painted(folder: Path, seed: int, volumes: int, each: int = 24) -> Iterator[Picture]:
    """Slices of the organs of TotalSegmentator's example CT, bent and painted in random looks, the same for a seed.

    What has no label is painted as air, fat, soft tissue and bone, which are no objects. Axial slices where those of
    the CT itself are held out are left out.
    """
    volume, objects = (
        nib.as_closest_canonical(nib.load(folder / "totalseg_example" / f"{name}.nii.gz"))
        for name in ("example_ct", "example_seg_fast_force_split")
    )
    labels = np.asarray(objects.dataobj).round().astype(np.int64)
    first = labels.max() + 1
    tissue = np.digitize(np.asarray(volume.dataobj), TISSUES)
    labels = np.where((labels == 0) & (tissue > 0), first - 1 + tissue, labels).astype(np.uint8)
    places = np.stack(np.meshgrid(*map(np.arange, labels.shape), indexing="ij")).astype(np.float32)
    for number in range(volumes):
        rng = np.random.default_rng((seed, 1, number))
        bent = places + np.stack([MOVED * smooth_field(rng, labels.shape, 4) for _ in range(3)])
        moved = ndimage.map_coordinates(labels, bent, order=0, mode="nearest")
        image = paint(moved, rng)
        low, high = intensity_bounds(torch.from_numpy(image))
        grey = (255 * ((image - low) / (high - low)).clip(0, 1)).astype(np.uint8)
        moved[moved >= first] = 0
        for i in range(each):
            axis = int(rng.integers(3))
            at = int(rng.integers(grey.shape[axis]))
            shown, found = (as_seen(np.take(a, at, axis), 1.0) for a in (grey, moved))
            if (found > 0).mean() >= LEAST_SHARE and not (axis == 2 and part(at // RUN) != "training"):
                yield Picture(f"{PAINTED}{number:04d}_{i}", shown, found)


def times(picture: Picture) -> int:
    """How often a picture comes in an epoch of the base's training."""
    if picture.part != "training" or picture.name.startswith((MADE_UP, PAINTED)):
        return 1
    return SLICE_TIMES if picture.name.startswith(("totalseg", "sarcoma", "cord")) else PICTURE_TIMES


def write(picture: Picture, folder: Path) -> tuple[dict, dict | None]:
    """Writes the files; the entries of the two lists, the second None where there are no names."""
    entries = []
    image = Image.fromarray(picture.image)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    image.save(folder / "images" / f"{picture.name}.png")
    for kind, mask in (("objects", picture.objects), ("labels", picture.labels)):
        if mask is None:
            entries.append(None)
            continue
        Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST).save(folder / kind / f"{picture.name}.png")
        entries.append({"image": f"images/{picture.name}.png", "label": f"{kind}/{picture.name}.png"})
    return entries[0], entries[1]


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.research.ssam_images", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the real sets; without it only made-up images")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--seed", type=int, default=0, help="of the made-up images (0)")
    parser.add_argument("--volumes", type=int, default=500, help="made-up volumes (500)")
    parser.add_argument("--each", type=int, default=8, help="slices of each of them (8)")
    parser.add_argument("--painted", type=int, default=0, help="volumes of real organs in made-up looks (0)")
    given = parser.parse_args(arguments)
    if given.data is not None and not given.data.is_dir():
        parser.error(f"--data {given.data}: no such folder")
    if given.painted and not (given.data and (given.data / "totalseg_example").is_dir()):
        parser.error(f"--painted {given.painted}: expected --data with totalseg_example, whose organs are painted")
    if given.output.exists() and any(given.output.iterdir()):
        parser.error(f"--output {given.output}: not empty; give a new folder")
    for kind in ("images", "objects", "labels"):
        (given.output / kind).mkdir(parents=True, exist_ok=True)
    base: dict = {"training": [], "validation": []}
    default: dict = {
        "labels": {str(i): n for i, n in enumerate(NAMES, 1)},
        "training": [],
        "validation": [],
        "test": [],
    }
    drawn = list(made_up(given.seed, given.volumes, given.each))
    if given.data:
        drawn = [*pictures(given.data), *drawn]
    if given.painted:
        drawn += painted(given.data, given.seed, given.painted)
    for picture in tqdm(drawn, desc="writing", unit="image"):
        objects, labels = write(picture, given.output)
        if labels is not None:
            default[picture.part].append(labels)
        if picture.part != "test":
            base[picture.part] += [objects] * times(picture)
    for listed, content in (("base", base), ("default", default)):
        (given.output / f"{listed}.json").write_text(json.dumps(content, indent=1) + "\n")
        counts = ", ".join(f"{len(v)} {k}" for k, v in content.items() if isinstance(v, list))
        print(f"{given.output / listed}.json: {counts}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
