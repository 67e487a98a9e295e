# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Miniature data sets, laid out as the real ones are distributed: the same folders, file names and codings."""

import json
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from tools.prepare_data.run import prepare

HEIGHT, WIDTH = 24, 32
SHAPE = (14, 16, 12)
# Oblique and anisotropic, first axis to the left.
AFFINE = np.array([[-1.5, 0.1, 0, 20], [0.15, 1.4, 0.1, -30], [0, -0.1, 2.5, 40], [0, 0, 0, 1]], dtype=float)


def photograph(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(H, W, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def blocks(*values, background=0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(H, W[, 3]) uint8: one upright block for each value, or colour, on the background."""
    picture = np.empty((height, width, *np.shape(background)), dtype=np.uint8)
    picture[:] = background
    for i, value in enumerate(values):
        picture[4:-4, 2 + 5 * i : 6 + 5 * i] = value
    return picture


def save(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def scan(seed: int, shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 100, shape).astype(np.int16)


def ball(*values: int, shape=SHAPE) -> np.ndarray:
    """(X, Y, Z) uint8: a slab for each value, all inside."""
    labels = np.zeros(shape, dtype=np.uint8)
    for i, value in enumerate(values):
        labels[3 + i : 4 + i, 4:-4, 3:-3] = value
    return labels


def save_volume(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def cholecseg8k(root: Path) -> None:
    for video, clip, first in (
        ("video01", "video01_00080", 80),
        ("video09", "video09_00400", 400),
        ("video27", "video27_00160", 160),
        ("video55", "video55_00508", 508),
    ):
        for frame in (first, first + 1):
            stem = root / video / clip / f"frame_{frame}_endo"
            save(stem.with_suffix(".png"), photograph(frame))
            codes = [31, 21, 12, 22] if video != "video09" else [11, 13, 5]
            mask = blocks(*[(c, c, c) for c in codes], background=(50, 50, 50))
            mask[[0, -1]] = mask[:, [0, -1]] = 255
            save(stem.with_name(f"{stem.name}_watershed_mask.png"), mask)
            colours = {
                31: (170, 255, 0),
                21: (255, 114, 114),
                12: (186, 183, 75),
                22: (255, 160, 165),
                11: (210, 140, 140),
                13: (231, 70, 156),
                5: (111, 74, 0),
            }
            coloured = blocks(*[colours[c] for c in codes], background=(127, 127, 127))
            coloured[[0, -1]] = coloured[:, [0, -1]] = 255
            save(stem.with_name(f"{stem.name}_color_mask.png"), coloured)
            save(stem.with_name(f"{stem.name}_mask.png"), coloured)


def glas(root: Path) -> None:
    folder = root / "Warwick_QU_Dataset"
    rows = ["name, patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    for name, patient in (
        ("train_1", 1),
        ("train_2", 1),
        ("train_3", 2),
        ("train_4", 3),
        ("testA_1", 4),
        ("testB_1", 4),
    ):
        save(folder / f"{name}.bmp", photograph(len(rows)))
        save(folder / f"{name}_anno.bmp", blocks(1, 2, 3))
        rows.append(f"{name}, {patient}, benign, adenomatous")
    (folder / "Grade.csv").write_text("\n".join(rows) + "\n")


def chestx_det(root: Path) -> None:
    square = [[4, 4], [4, 16], [20, 16], [20, 4]]
    lower = [[10, 8], [10, 20], [28, 20], [28, 8]]
    entries = {
        "train": [
            {"file_name": "36199.png", "syms": [], "boxes": [], "polygons": []},
            {
                "file_name": "36302.png",
                "syms": ["Effusion", "Mass"],
                "boxes": [[0, 0, 1, 1]] * 2,
                "polygons": [square, lower],
            },
            {"file_name": "36331.png", "syms": ["Nodule"], "boxes": [[0, 0, 1, 1]], "polygons": [lower]},
        ],
        "test": [{"file_name": "70001.png", "syms": ["Diffuse Nodule"], "boxes": [[0, 0, 1, 1]], "polygons": [square]}],
    }
    for part, content in entries.items():
        (root / f"ChestX_Det_{part}.json").write_text(json.dumps(content))
        for i, entry in enumerate(content):
            save(root / f"{part}_data" / entry["file_name"], photograph(i)[..., 0])


def abdominal_us(root: Path) -> None:
    for part, names in (("train", ("ct1-1", "ct1-2", "ct13-4")), ("test", ("ct16-7",))):
        for i, name in enumerate(names):
            folder = root / "abdominal_US" / "abdominal_US" / "AUS"
            save(folder / "images" / part / f"{name}.png", photograph(i))
            mask = blocks((100, 0, 100), (255, 255, 0), (255, 0, 0), background=(10, 10, 10))
            mask[:2] = 0
            save(folder / "annotations" / part / f"{name}.png", mask)


def lits(root: Path) -> None:
    for number in (0, 1, 2):
        save_volume(root / "Training_Batch1" / f"volume-{number}.nii", scan(number))
        save_volume(root / "Training_Batch1" / f"segmentation-{number}.nii", ball(1, 2))
    save_volume(root / "LITS-Challenge-Test-Data" / "test-volume-0.nii", scan(9))


def drive(root: Path) -> None:
    for part, first in (("training", 21), ("test", 1)):
        for number in range(first, first + 3):
            save(root / part / "images" / f"{number:02d}_{part}.tif", photograph(number))
            save(root / part / "1st_manual" / f"{number:02d}_manual1.gif", blocks(255, 255))
            save(root / part / "mask" / f"{number:02d}_{part}_mask.gif", blocks(255))


def arcade(root: Path) -> None:
    for part, count in (("train", 3), ("val", 1), ("test", 1)):
        folder = root / "arcade" / "syntax" / part
        content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "1"}]}
        for number in range(1, count + 1):
            save(folder / "images" / f"{number}.png", photograph(number)[..., 0])
            content["images"].append({"id": number, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT})
            for x in (4, 14):
                ring = [x, 4, x, 18, x + 6, 18, x + 6, 4]
                content["annotations"].append({"image_id": number, "category_id": 1, "segmentation": [ring]})
        (folder / "annotations").mkdir()
        (folder / "annotations" / f"{part}.json").write_text(json.dumps(content))


def salt(root: Path) -> None:
    rows = ["imgs,split"]
    for i, part in enumerate(("train", "train", "val", "test")):
        save(root / "images" / f"{i}.png", photograph(i)[..., 0])
        save(root / "masks" / f"{i}.png", blocks(255, 3))
        rows.append(f"images/{i}.png,{part}")
    (root / "data_split.csv").write_text("\n".join(rows) + "\n")


def amos22(root: Path) -> None:
    for part, numbers in (("Tr", (1, 4, 507)), ("Va", (8, 508))):
        for number in numbers:
            save_volume(root / "amos22" / f"images{part}" / f"amos_{number:04d}.nii.gz", scan(number))
            save_volume(root / "amos22" / f"labels{part}" / f"amos_{number:04d}.nii.gz", ball(1, 6, 15))
    save_volume(root / "amos22" / "imagesTs" / "amos_0020.nii.gz", scan(20))
    (root / "amos22" / "dataset.json").write_text(
        json.dumps({"name": "AMOS", "labels": {"0": "background", "1": "spleen"}})
    )


def totalsegmentator(root: Path) -> None:
    rows = ["image_id;age;gender;institute;study_type;split"]
    for i, part in enumerate(("train", "train", "val", "test")):
        folder = root / f"s{i:04d}"
        save_volume(folder / "ct.nii.gz", scan(i))
        for k, organ in enumerate(("aorta", "liver", "spleen")):
            mask = ball(*([0] * k), 1) if organ != "spleen" or i else ball()
            save_volume(folder / "segmentations" / f"{organ}.nii.gz", mask)
        rows.append(f"s{i:04d};50;m;A;ct abdomen;{part}")
    (root / "meta.csv").write_text("\n".join(rows) + "\n", encoding="utf-8-sig")


def brats(root: Path) -> None:
    for number in (0, 2, 3):
        folder = root / f"BraTS2021_{number:05d}"
        for i, contrast in enumerate(("flair", "t1", "t1ce", "t2")):
            save_volume(folder / f"{folder.name}_{contrast}.nii.gz", scan(10 * number + i))
        save_volume(folder / f"{folder.name}_seg.nii.gz", ball(1, 2, 4))


def brats2023(root: Path) -> None:
    for patient, time in ((0, 0), (0, 1), (2, 0)):
        folder = root / f"BraTS-GLI-{patient:05d}-{time:03d}"
        for i, contrast in enumerate(("t2f", "t1n", "t1c", "t2w")):
            save_volume(folder / f"{folder.name}-{contrast}.nii.gz", scan(10 * patient + i))
        save_volume(folder / f"{folder.name}-seg.nii.gz", ball(1, 2, 3))


def nnunet(root: Path) -> None:
    for name in ("case_001", "case_002", "case_003"):
        for channel in (0, 1):
            save_volume(root / "imagesTr" / f"{name}_{channel:04d}.nii.gz", scan(channel))
        save_volume(root / "labelsTr" / f"{name}.nii.gz", ball(1, 2))
    content = {
        "channel_names": {"0": "T2", "1": "ADC"},
        "labels": {"background": 0, "zone": 1, "lesion": 2},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content))


def decathlon(root: Path) -> None:
    items = []
    for number in (1, 2, 3):
        file = f"prostate_{number:02d}.nii.gz"
        save_volume(root / "imagesTr" / file, np.stack([scan(number), scan(number + 10)], axis=-1))
        save_volume(root / "labelsTr" / file, ball(1, 2))
        (root / "imagesTr" / f"._{file}").write_text("left by macOS")
        items.append({"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"})
    content = {
        "name": "Prostate",
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "numTraining": 3,
        "training": items,
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(content))


def pairs(root: Path) -> None:
    for i in range(4):
        save(root / "images" / f"{i}.png", photograph(i))
        save(root / "masks" / f"{i}.png", blocks(1, 2))
    (root / "labels.json").write_text(json.dumps({"1": "nerve", "2": "vessel"}))


MAKERS = (
    cholecseg8k, glas, chestx_det, abdominal_us, lits, drive, arcade, salt, amos22,
    totalsegmentator, brats, nnunet, decathlon, pairs,
)  # fmt: skip
TREES = {maker.__name__: maker for maker in MAKERS}


def prepared_lists(root: Path, splits: Mapping[str, str]) -> dict[str, Path]:
    """The data list of each miniature, made ready below a folder and split as it says."""
    for name, split in splits.items():
        (root / name).mkdir()
        TREES[name](root / name)
        prepare(name, root / name, root / f"{name}_prepared", split_by=split, progress=False)
    return {name: root / f"{name}_prepared" / "data_list.json" for name in splits}
