# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The small open sets of pictures that this project trains and measures on, in the form in which it keeps them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tools.prepare_data.case import Case, Choices, Found, Problem, files_in, read_object, stem
from tools.prepare_data.labels import Colours, Instances
from tools.prepare_data.masks import Masks
from tools.prepare_data.rasters import read_colours
from tools.prepare_data.sets.pairs import pair

BUSI = {"benign tumour": (0, 255, 0), "malignant tumour": (255, 0, 0)}
EDD2020 = {
    "Barrett's esophagus": (0, 255, 255),
    "cancer": (255, 0, 0),
    "high-grade dysplasia": (10, 128, 10),
    "polyp": (200, 0, 200),
    "suspicious": (40, 40, 255),
}
CURVAS = {"pancreas": (0, 255, 255), "kidney": (255, 255, 0), "liver": (255, 0, 255)}


def _coloured(colours: Mapping[str, tuple[int, int, int]], modality: str) -> Callable[[Path, Choices], Found]:
    """Finder of images/ and masks/ with these very colours."""

    def find(source: Path, choices: Choices) -> Found:
        images, masks = ({stem(p): p for p in files_in(source / f, "*.png")} for f in ("images", "masks"))
        found = pair(images, masks, colours, modality)
        # Other sets have these folders too: the first masks tell.
        if not all(_fits(case.label) for case in found.cases[:3]):
            return Found(found.labels)
        return found

    return find


def _fits(label: Colours) -> bool:
    """Whether the mask has no other colours; true for one that cannot be read, which is reported later."""
    try:
        label.read(read_colours(label.path))
    except ValueError as error:
        return "cannot be read" in str(error)
    return True


def _curvas(source: Path, choices: Choices) -> Found:
    found = _coloured(CURVAS, "CT")(source, choices)
    # 10001_458 is slice 458 of patient 10001.
    found.cases = [replace(case, patient=case.name.split("_")[0]) for case in found.cases]
    return found


def _btcv(source: Path, choices: Choices) -> Found:
    names = read_object(source / "labels.json")
    images, masks = ({stem(p): p for p in files_in(source / f, "ABD_*.png")} for f in ("images", "labels"))
    found = pair(images, masks, names, "CT") if names else Found({})
    # ABD_001_100 is slice 100 of patient ABD_001.
    found.cases = [replace(case, patient=case.name.rsplit("_", 1)[0]) for case in found.cases]
    return found


def _dsb2018(source: Path, choices: Choices) -> Found:
    found = Found({1: "nucleus"}, unit="images")
    masks = {stem(p): p for p in files_in(source / "instances", "*.png")}
    for image in files_in(source / "images", "*.png") if masks else ():
        label = Instances(masks.get(stem(image), source / "instances" / image.name))
        found.add(Case(stem(image), stem(image), image, label, "microscopy"))
    return found


def _sam_med2d(source: Path, choices: Choices) -> Found:
    """Masks are named image_label_000.png; a label in two pieces has a file for each."""
    masks = {p: re.sub(r"_\d{3}$", "", stem(p)) for p in files_in(source / "masks", "*_???.png")}
    of_image = {
        image: [
            (name[len(stem(image)) + 1 :].replace("_", " "), path)
            for path, name in masks.items()
            if name.startswith(f"{stem(image)}_")
        ]
        for image in files_in(source / "images", "*.png")
    }
    names = sorted({name for pieces in of_image.values() for name, _ in pieces})
    found = Found({i: name for i, name in enumerate(names, 1)}, unit="images")
    for image, pieces in of_image.items():
        if names and not pieces:
            found.problems.append(Problem("missing pair", f"{image}: no mask is named after it: left out"))
        elif pieces:
            label = Masks(tuple((names.index(name) + 1, path) for name, path in pieces), overlapping=True)
            modality = "MR" if stem(image).startswith("amos_05") else "CT"
            found.add(Case(stem(image), stem(image).rsplit("_", 1)[0], image, label, modality))
    return found


FINDERS = {
    "busi": _coloured(BUSI, "ultrasound"),
    "edd2020": _coloured(EDD2020, "endoscopy"),
    "curvas": _curvas,
    "btcv_slices": _btcv,
    "dsb2018": _dsb2018,
    "sam_med2d_demo": _sam_med2d,
}
