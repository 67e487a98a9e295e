# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Lists of labelled images in the form of the Medical Segmentation Decathlon, which MONAI uses; checked when read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .files import stands
from .json_files import read_json
from .label_table import read_label_names

FORM = '{"training": [{"image": FILE, "label": FILE, "label_names": {"1": NAME}}, ...], "validation": [...]}'
# As many problems as a person reads at once.
SHOWN = 20


def read_data_list(
    data_list_file_path: str | Path | None, dataset_dir: str | Path | None = None, section: str = "training"
) -> list[dict[str, Any]]:
    """The items of one section of a data list, all of whose files exist.

    Args:
        data_list_file_path: JSON: ``{section: [{"image": FILE, "label": FILE, "label_names": {"1": NAME}}, ...]}``.
            ``label_names`` is optional; a ``labels`` beside the sections names the values in all items that have none
            of their own, see :func:`.label_table.read_label_names`. A ``label`` may also be ``{NAME: FILE}``, a mask
            for each name.
        dataset_dir: where relative paths start. What is not there, and everything where it is None, is looked for
            beside the list.
        section: which list of the file.

    Returns:
        For each item ``image`` and ``label`` as absolute paths, ``label_names`` as ``{value: name}`` without the
        background 0 (empty where nothing is named) or ``{name: (r, g, b)}``, and whatever else the item holds.

    Raises:
        ValueError: no such list, no JSON, no such section or an empty one, items of another form, and files that do
            not exist, all of them in one message.
    """
    if not data_list_file_path:
        raise ValueError(f"no data list was given: expected --data_list_file_path FILE, JSON: {FORM}")
    path = Path(data_list_file_path).expanduser().absolute()
    content = _read(path)
    named = read_label_names(content["labels"], f"{path}: labels") if content.get("labels") else {}
    folders = [path.parent]
    if dataset_dir:
        folders.insert(0, Path(dataset_dir).expanduser().absolute())
        if not folders[0].is_dir():
            raise ValueError(f"dataset_dir {dataset_dir}: no such folder; expected where the paths of {path} start")
    items, missing = [], []
    for number, item in enumerate(_section(content, section, path)):
        where = f"{path}: {section}[{number}]"
        read = dict(_checked(item, where))
        for key in ("image", "label"):
            files = read[key] if isinstance(read[key], dict) else {"": read[key]}
            found = {name: _find(file, folders) for name, file in files.items()}
            missing += [f"{files[n]} ({key} of {section}[{number}])" for n, place in found.items() if place is None]
            read[key] = found if isinstance(read[key], dict) else found[""]
        names = read.get("label_names")
        read["label_names"] = read_label_names(names, f"{where}: label_names") if names else dict(named)
        items.append(read)
    if missing:
        shown = "\n  ".join([*missing[:SHOWN], *([f"and {len(missing) - SHOWN} more"] if missing[SHOWN:] else [])])
        looked = " nor in ".join(str(folder) for folder in dict.fromkeys(folders))
        raise ValueError(
            f"{path}: {len(missing)} files do not exist in {looked}:\n  {shown}\n"
            f"expected paths relative to dataset_dir or to the folder of the list"
        )
    return items


def _read(path: Path) -> Mapping[str, Any]:
    content = read_json(path, f"JSON, {FORM}")
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}; expected {FORM}")
    return content


def _section(content: Mapping[str, Any], section: str, path: Path) -> list[Any]:
    if section not in content:
        there = ", ".join(k for k, v in content.items() if isinstance(v, list)) or "none"
        raise ValueError(f"{path}: no section {section!r} (there: {there}); expected {FORM}")
    if not isinstance(content[section], list) or not content[section]:
        found = "an empty list" if content[section] == [] else f"a {type(content[section]).__name__}"
        raise ValueError(f"{path}: {section} is {found}; expected a list of at least one labelled image, {FORM}")
    return content[section]


def _checked(item: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(item, dict):
        raise ValueError(f'{where} is {item!r}; expected {{"image": FILE, "label": FILE}}')
    for key, also in (("image", ""), ("label", " or {NAME: FILE}")):
        files = list(item[key].values()) if also and isinstance(item.get(key), dict) else [item.get(key)]
        if not files or not all(isinstance(file, str) and file for file in files):
            raise ValueError(f"{where}: {key} is {item.get(key)!r}; expected the path of one file{also}")
    return item


def _find(path: str, folders: list[Path]) -> str | None:
    """The first that exists; an absolute path is itself whatever the folder."""
    candidates = [folder / Path(path).expanduser() for folder in folders]
    return next((str(c) for c in candidates if stands(c)), None)
