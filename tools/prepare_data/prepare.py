# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""One case: read, checked, converted where needed, and described by a record."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.files import whole_files
from common.planes import Plane
from tools.prepare_data import rasters
from tools.prepare_data.case import Case, Problem
from tools.prepare_data.rasters import Raster


@dataclass(frozen=True)
class Conversion:
    """How files are changed.

    Attributes:
        output: folder of the prepared data set.
        spacing: mm of volumes, three numbers; None to leave them as they are.
        size: pixels of the longer edge of pictures; None likewise.
        slices: ``labelled`` or ``all`` axial slices of volumes become images; ``no``.
    """

    output: Path
    spacing: tuple[float, float, float] | None = None
    size: int | None = None
    slices: str = "no"


def prepare_case(case: Case, conversion: Conversion) -> dict[str, Any]:
    """Prepare a case and give its record; a case that cannot be used has a record that says why.

    A record holds ``items`` for the data list, ``shape``, ``spacing``, ``voxels`` of each index, ``problems`` as
    (kind, text), ``left_out``, and the size and time of the files that it was made from.
    """
    path = _record_path(case, conversion)
    record = {"name": case.name, "patient": case.patient, "sources": _sources(case)}
    try:
        record |= {"left_out": False, **_convert(case, conversion)}
    except ValueError as error:
        kind = next(
            (k for k in ("cannot be read", "grids differ", "empty label", "unknown") if k in str(error)), "unusable"
        )
        text = f"{case.name}: {error}: left out"
        record |= {"left_out": True, "items": [], "problems": [Problem(kind, text)]}
    with whole_files(path.parent) as side:
        (side / path.name).write_text(json.dumps(record))
    return json.loads(json.dumps(record))


def file_name(case: Case) -> str:
    """The case's name as that of a file."""
    return re.sub(r"[^\w.+-]+", "_", case.name)


def earlier_record(case: Case, conversion: Conversion) -> dict[str, Any] | None:
    """The record of an earlier run, if nothing has changed since. What was left out then is to be looked at again."""
    path = _record_path(case, conversion)
    if not path.is_file():
        return None
    record = json.loads(path.read_text())
    files = [conversion.output / f for item in record["items"] for f in _files(item)]
    whole = not record["left_out"] and record["sources"] == _sources(case) and all(f.is_file() for f in files)
    return record if whole else None


def _record_path(case: Case, conversion: Conversion) -> Path:
    return conversion.output / "cases" / f"{file_name(case)}.json"


def _sources(case: Case) -> dict[str, list[int]]:
    """Size and time of the files that a case is read from."""
    return {str(p): [p.stat().st_size, p.stat().st_mtime_ns] for p in case.files}


def _files(item: dict[str, Any]) -> list[str]:
    label = item["label"]
    return [item["image"], *(label.values() if isinstance(label, dict) else [label])]


def _convert(case: Case, conversion: Conversion) -> dict[str, Any]:
    image = rasters.read_image(case.image, case.channel)
    problems = []
    if not np.isfinite(image.values).all():
        problems.append(Problem("not finite", f"{case.image}: some voxels are NaN or infinite"))
    label = case.label.read(image)
    problems += label.problems
    maps = label.maps if isinstance(label.maps, dict) else {0: label.maps}
    for given in maps.values():
        difference = rasters.difference(given, image)
        if difference:
            raise ValueError(difference)
    voxels = _voxels(label.maps)
    # Nothing can be clicked in such a volume, and training refuses it; of a picture it is worth knowing.
    if not voxels and image.affine is not None and conversion.slices != "all":
        raise ValueError("empty label")
    if not voxels:
        problems.append(Problem("empty label", f"{case.name}: no label in it"))
    size = math.prod(image.shape)
    for index in (index for index, n in voxels.items() if n == size):
        text = f"{case.name}: label {index} covers every pixel; is the mask in another channel, such as alpha?"
        problems.append(Problem("whole image", text))
    about = {"shape": image.shape, "spacing": image.spacing, "voxels": voxels, "problems": problems}
    if conversion.slices != "no" and image.affine is not None:
        items = _slices(case, image, label.maps, conversion)
    else:
        items = [_item(case, image, label, conversion)]
    names = {str(k): v for k, v in case.label_names.items()} if case.label_names else None
    extra = {"modality": case.modality, "patient": case.patient} | ({"label_names": names} if names else {})
    return about | {"items": [item | extra for item in items]}


def _voxels(maps: Raster | dict[int, Raster]) -> dict[str, int]:
    if isinstance(maps, dict):
        counts = {index: int(np.count_nonzero(m.values)) for index, m in maps.items()}
    else:
        counts = dict(enumerate(np.bincount(maps.values.ravel()).tolist()))
    return {str(index): n for index, n in counts.items() if index and n}


def _item(case: Case, image: Raster, label: Any, conversion: Conversion) -> dict[str, Any]:
    """The paths of one image and its label, written where they cannot stay in place."""
    new_image = rasters.resampled(image, conversion.spacing, conversion.size, nearest=False)
    name, extension = file_name(case), ".png" if image.affine is None else ".nii.gz"
    item: dict[str, Any] = {}
    if new_image is image and case.channel is None:
        item["image"] = str(case.image.absolute())
    else:
        item["image"] = f"images/{name}{extension}"
        _write(_plain(new_image), conversion.output / item["image"])
    if isinstance(label.maps, dict):
        item["label"] = {}
        for index, mask in label.maps.items():
            item["label"][str(index)] = f"labels/{name}_{index}{extension}"
            mask = rasters.resampled(mask, conversion.spacing, conversion.size, nearest=True)
            _write(_white(mask), conversion.output / item["label"][str(index)])
        return item
    new_label = rasters.resampled(label.maps, conversion.spacing, conversion.size, nearest=True)
    if new_label is label.maps and label.in_place:
        item["label"] = str(label.in_place.absolute())
    else:
        item["label"] = f"labels/{name}{extension}"
        _write(new_label, conversion.output / item["label"])
    return item


def _slices(case: Case, image: Raster, maps: Raster | dict[int, Raster], conversion: Conversion) -> list[dict]:
    """Axial slices as volumes of one slice, each with its place in space."""
    if isinstance(maps, dict):
        raise ValueError("overlapping labels cannot be sliced; leave --slices out")
    image = rasters.resampled(image, conversion.spacing, None, nearest=False)
    maps = rasters.resampled(maps, conversion.spacing, None, nearest=True)
    axis = Plane.of(image.affine, image.shape, "axial").axes[2]
    numbers = range(image.shape[axis])
    if conversion.slices == "labelled":
        numbers = np.flatnonzero(maps.values.any(axis=tuple(k for k in range(3) if k != axis))).tolist()
    items = []
    for number in numbers:
        name = f"{file_name(case)}_{number:04d}.nii.gz"
        item = {"image": f"images/{name}", "label": f"labels/{name}"}
        _write(_plain(_slice(image, axis, number)), conversion.output / item["image"])
        _write(_slice(maps, axis, number), conversion.output / item["label"])
        items.append(item)
    return items


def _slice(raster: Raster, axis: int, number: int) -> Raster:
    """One slice where it lies in space, the axis across it last."""
    order = [*(k for k in range(3) if k != axis), axis]
    affine = raster.affine[:, [*order, 3]].copy()
    affine[:3, 3] += number * raster.affine[:3, axis]
    return Raster(np.take(raster.values, [number], axis=axis).transpose(order), affine)


def _plain(raster: Raster) -> Raster:
    """In a type that NIfTI readers expect."""
    if raster.affine is not None and raster.values.dtype == np.float64:
        return raster._replace(values=raster.values.astype(np.float32))
    return raster


def _white(mask: Raster) -> Raster:
    """Inside 255 in a picture, so that a person sees it; 1 in a volume."""
    return mask if mask.affine is not None else mask._replace(values=mask.values * np.uint8(255))


def _write(raster: Raster, path: Path) -> None:
    with whole_files(path.parent) as side:
        rasters.write(raster, side / path.name)
