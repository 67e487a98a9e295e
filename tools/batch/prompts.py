# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Prompts from what other tools write: a mask whose objects are clicked on, or a file of boxes."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from sam_bundles.common.clicks import deepest_point
from sam_bundles.common.files import existing
from sam_bundles.common.json_files import parse_json, read_json
from sam_bundles.common.result_files import stem_of
from scipy import ndimage

# Keys of a job that say where prompts are taken from.
SOURCES = ("mask", "mask_names", "boxes")
# A piece of an object is clicked on where it has this share of the object's voxels.
PIECE = 0.1
BOXES = "{name: [[i, j, k], [i, j, k]]} as JSON, or CSV with the columns name,i,j,k,i2,j2,k2 (pictures: name,x,y,x2,y2)"


def with_prompts(data: Mapping[str, Any]) -> dict[str, Any]:
    """The item with ``objects`` in the place of ``mask``, ``mask_names`` and ``boxes``.

    Args:
        data: ``image`` is read already.

    Raises:
        ValueError: a mask on another grid, files of another form, or objects that were given otherwise too.
    """
    mask, names, boxes = (data.get(key) for key in SOURCES)
    plain = {key: value for key, value in data.items() if key not in SOURCES}
    found: dict[str, Any] = {}
    if mask:
        found = clicks_of(data["image"], mask, names)
    for name, box in (read_boxes(boxes) if boxes else {}).items():
        found.setdefault(name, {})["box"] = box
    if not found:
        return plain
    given = plain.get("objects") or {}
    twice = [name for name in given if name in found]
    if twice:
        raise ValueError(
            f"objects and {'mask' if mask else 'boxes'} both name {', '.join(twice)}: expected one of them"
        )
    return {**plain, "objects": {**given, **found}}


def clicks_of(image: MetaTensor, mask: str, names: Any = None) -> dict[str, Any]:
    """Clicks well inside each object of a label map: the deepest voxel of each of its larger pieces.

    Args:
        image: (1, X, Y, Z), on whose grid the mask lies.
        mask: file of the label map.
        names: ``{value: name}`` or a JSON file of it; None for those in the description beside the mask, if there is
            one, else ``label VALUE``.

    Raises:
        ValueError: no volume, another grid, an empty mask.
    """
    if image.ndim != 4 or len(image) != 1 or "plane" in image.meta:
        raise ValueError(
            f"mask {mask}: prompts from a mask are for volumes and fastsam3d; expected labels, clicks or boxes"
        )
    # Bundles import by paths of their own: this one only where it is asked for.
    from sam_bundles.fastsam3d.scripts.volumes import read_labels

    labels = read_labels(mask, image).numpy()
    spacing = np.linalg.norm(np.asarray(image.meta.get("affine", image.affine))[:3, :3], axis=0)
    known = read_names(mask, names)
    found = {}
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        pieces, count = ndimage.label(labels[box] == value)
        sizes = np.bincount(pieces.reshape(-1), minlength=count + 1)[1:]
        order = sorted(range(count), key=lambda i: (-sizes[i], i))
        clicks = [
            [int(i + s.start) for i, s in zip(deepest_point(pieces == piece + 1, spacing), box, strict=True)]
            for piece in order
            if piece == order[0] or sizes[piece] >= PIECE * sizes.sum()
        ]
        found[known.get(str(value), f"label {value}")] = {"foreground": clicks}
    return found


def read_names(mask: str, names: Any) -> dict[str, str]:
    """Names by value. Raises ValueError for another form."""
    where = f"mask_names of {mask}"
    if names is None:
        beside = Path(mask).with_name(f"{stem_of(Path(mask).name)}.json")
        names = read_json(beside, "a description").get("label_names") if beside.is_file() else {}
    elif isinstance(names, str):
        text = names.strip()
        names = parse_json(text, where, "{value: name}") if text.startswith("{") else read_json(text, "{value: name}")
    if not isinstance(names, Mapping) or not all(isinstance(n, str) and n.strip() for n in names.values()):
        raise ValueError(f"{where}: {names!r:.200}; expected {{value: name}}")
    if len(set(names.values())) < len(names):
        raise ValueError(f"{where}: {names!r:.200}; expected every name once")
    return {str(value): name for value, name in names.items()}


def read_boxes(path: str) -> dict[str, list]:
    """``{name: [lowest, highest]}`` of a file.

    Raises:
        ValueError: another form, or a name that comes twice.
    """
    place = existing(path, BOXES)
    if place.suffix.lower() == ".json":
        boxes = read_json(place, BOXES)
        if not isinstance(boxes, dict) or not boxes:
            raise ValueError(f"{path}: {type(boxes).__name__}; expected {BOXES}")
        return boxes
    try:
        rows = list(csv.reader(io.StringIO(place.read_text(encoding="utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: no table ({error}); expected {BOXES}") from error
    rows = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    header = rows[0] if rows else []
    if header not in (["name", "i", "j", "k", "i2", "j2", "k2"], ["name", "x", "y", "x2", "y2"]) or len(rows) < 2:
        raise ValueError(f"{path}: the columns {','.join(header)}, {max(0, len(rows) - 1)} rows; expected {BOXES}")
    half = (len(header) - 1) // 2
    boxes = {}
    for name, *cells in rows[1:]:
        try:
            numbers = [float(cell) for cell in cells]
        except ValueError as error:
            raise ValueError(f"{path}: {name}: {error}; expected numbers") from error
        if len(numbers) != 2 * half or not name or name in boxes:
            raise ValueError(
                f"{path}: {name!r}: {len(numbers)} numbers, or twice; expected {','.join(header)} once a name"
            )
        boxes[name] = [numbers[:half], numbers[half:]]
    return boxes
