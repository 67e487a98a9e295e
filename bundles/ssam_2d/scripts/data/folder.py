# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A folder with ``images/``, ``masks/`` and ``labels.json`` as a list of items."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..image_files import DICOM, PICTURES, VOLUMES

FORM = '{"1": "gland"} for the values of index masks, or {"polyp": [200, 0, 200]} for colours'
SHOWN = 20


def read_folder(dataset_dir: str | Path) -> list[dict[str, Any]]:
    """The images of a folder with their masks.

    A mask is called as its image (``masks/a.png`` for ``images/a.jpg``), or each label has a file of its own:
    ``masks/a_gland.png``, or ``masks/gland/a.png``; an absent label needs no file then, but an image at least one.

    Returns:
        Items as :func:`..common.data_list.read_data_list` gives them.

    Raises:
        ValueError: what is missing, an empty folder, labels of another form, images without a mask (all named).
    """
    folder = Path(dataset_dir).expanduser().absolute()
    expected = f"expected a folder with images/, masks/ and labels.json ({FORM})"
    if not folder.is_dir():
        raise ValueError(f"dataset_dir {dataset_dir}: no such folder; {expected}")
    missing = [name for name in ("images", "masks", "labels.json") if not (folder / name).exists()]
    if missing:
        raise ValueError(f"dataset_dir {folder}: no {', '.join(missing)} in it; {expected}")
    table = read_table(folder / "labels.json")
    images = {stem_of(file): file for file in _files(folder / "images")}
    if not images:
        raise ValueError(f"{folder / 'images'}: no image in it; expected {', '.join((*PICTURES, *DICOM, *VOLUMES))}")
    names = [key if isinstance(key, str) else table[key] for key in table]
    whole = {stem_of(file): str(file) for file in _files(folder / "masks")}
    items, without = [], []
    for stem, image in images.items():
        label: Any = whole.get(stem) or _own_files(folder / "masks", stem, names, whole)
        if not label:
            without.append(image.name)
        items.append({"image": str(image), "label": label, "label_names": dict(table)})
    if without:
        shown = ", ".join(without[:SHOWN]) + (f" and {len(without) - SHOWN} more" if without[SHOWN:] else "")
        raise ValueError(
            f"{folder / 'masks'}: no mask for {shown}; expected a file of the image's name, or one for each label such "
            f"as {stem_of(Path(without[0]))}_{names[0]}.png"
        )
    return items


def read_table(path: Path) -> dict:
    """``labels.json`` as ``{value: name}`` or ``{name: (r, g, b)}``, without the background.

    Raises:
        ValueError: no JSON, another form, a name or a value twice.
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); expected {FORM}") from error
    if not isinstance(given, dict) or not given:
        raise ValueError(f"{path}: holds {given!r}; expected {FORM}")
    colours = {key: value for key, value in given.items() if isinstance(value, list)}
    for key, value in given.items():
        colour = len(value) == 3 and all(isinstance(v, int) and 0 <= v < 256 for v in value) if colours else False
        if not (colour if colours else key.isdecimal() and isinstance(value, str) and value.strip()):
            raise ValueError(f"{path}: {key!r}: {value!r}; expected {FORM}, all of one kind")
    values = [tuple(value) if colours else value for value in given.values()]
    if len(set(values)) < len(values):
        raise ValueError(f"{path}: a {'colour' if colours else 'name'} comes twice; expected every one once")
    if colours:
        return {name: tuple(colour) for name, colour in given.items() if any(colour)}
    return {int(value): name for value, name in given.items() if int(value)}


def stem_of(file: Path) -> str:
    """The name without its ending, of which some have two parts."""
    ending = next((e for e in VOLUMES if file.name.lower().endswith(e)), file.suffix)
    return file.name[: len(file.name) - len(ending)]


def _files(folder: Path) -> list[Path]:
    endings = (*PICTURES, *DICOM, *VOLUMES)
    return sorted(f for f in folder.iterdir() if f.is_file() and f.name.lower().endswith(endings) and f.name[0] != ".")


def _own_files(masks: Path, stem: str, names: list[str], whole: dict[str, str]) -> dict[str, str]:
    """The files of the labels of one image, by name; a blank in a name may be an underscore in the file's."""
    found = {}
    for name in names:
        for spelled in dict.fromkeys((name, name.replace(" ", "_"))):
            inner = masks / spelled
            candidates = [f for f in _files(inner) if stem_of(f) == stem] if inner.is_dir() else []
            if f"{stem}_{spelled}" in whole:
                candidates.append(Path(whole[f"{stem}_{spelled}"]))
            if candidates:
                found[name] = str(candidates[0])
                break
    return found
