# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Items to train and to validate on, the names of their labels, and a check of every image and mask."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..common.data_list import read_data_list
from ..common.flags import flag
from ..common.json_files import read_json
from ..common.label_table import LabelNames
from ..common.reading.options import MAX_PIXELS
from ..images import LoadImage2Dd
from .folder import read_folder
from .masks import LoadMasksd, names_in

logger = logging.getLogger(__name__)
SHOWN = 20
VALIDATION = "validation"


def labelled_items(
    section: str = "training",
    data_list_file_path: str | Path | None = None,
    dataset_dir: str | Path | None = None,
    validation_share: float = 0.2,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The items of one section of a data list, or of a folder.

    A folder, and a list without a section ``validation``, is split by the seed; ``all`` gives everything.

    Args:
        section: of the list; for what is split ``training``, ``validation`` or ``all``.
        data_list_file_path: see :func:`..common.data_list.read_data_list`.
        dataset_dir: where the list's paths start; without a list, see :func:`.folder.read_folder`.
        validation_share: of the images, where they are split. Fewer than three images all train.
        seed: of the split.

    Raises:
        ValueError: neither a list nor a folder, or what reading them finds wrong.
    """
    if data_list_file_path is not None:
        there = _sections(data_list_file_path)
        as_listed = section in there and (section != "training" or VALIDATION in there)
        if as_listed or section not in ("training", VALIDATION, "all"):
            return read_data_list(data_list_file_path, dataset_dir, section)
        everything = read_data_list(data_list_file_path, dataset_dir, "training")
    elif dataset_dir is not None:
        everything = read_folder(dataset_dir)
    else:
        raise ValueError(
            "no data: give --data_list_file_path LIST.json, or --dataset_dir DIR with images/, masks/ and labels.json"
        )
    if section == "all":
        return everything
    training, validation = split(everything, validation_share, seed)
    return {"training": training, VALIDATION: validation}[section]


def _sections(path: str | Path) -> list[str]:
    """The names of the lists in a file that can be read; what is wrong with another is read_data_list's to say."""
    try:
        content = read_json(path, "a data list")
    except ValueError:
        return ["training"]
    return [k for k, v in content.items() if isinstance(v, list)] if isinstance(content, dict) else []


def split(items: Sequence[Any], share: float, seed: int) -> tuple[list[Any], list[Any]]:
    """Those that train and those that validate, each in the order given; the same for the same seed.

    Raises:
        ValueError: a share below 0 or not below 1.
    """
    if not 0 <= share < 1:
        raise ValueError(f"validation_share {share}: expected 0 or more and less than 1")
    count = round(share * len(items)) if len(items) >= 3 else 0
    if share and len(items) >= 3:
        count = max(1, count)
    held = set(np.random.default_rng(seed).permutation(len(items))[:count].tolist())
    training = [item for i, item in enumerate(items) if i not in held]
    return training, [item for i, item in enumerate(items) if i in held]


def label_list(
    items: Sequence[Mapping[str, Any]], wanted: Sequence[str] | None = None, table: LabelNames | None = None
) -> list[str]:
    """The names of all labels in the items' tables, in order of first mention; or those wanted, which must be there.

    Args:
        items: see :func:`labelled_items`; those without a table take ``table``.
        wanted: a part of the names.
        table: see :class:`.masks.LoadMasksd`.

    Raises:
        ValueError: no names at all, or a wanted name that the data does not have.
    """
    tables = [(item.get("label_names") or table or {}, item["label"]) for item in items]
    names = list(dict.fromkeys(name for known, label in tables for name in names_in(known, label)))
    if not names:
        raise ValueError(
            'no label has a name; expected "labels": {"1": "gland"} in the data list, label_names in its items, or '
            "labels.json in the folder"
        )
    for name in wanted or ():
        if list(wanted).count(name) > 1:
            raise ValueError(f"labels {list(wanted)}: {name!r} comes twice; expected every one once")
        if name not in names:
            near = get_close_matches(name, names, n=3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise ValueError(f"unknown label {name!r}; the data has {', '.join(names)}{hint}")
    return list(wanted) if wanted else names


def checked_items(
    items: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    table: LabelNames | None = None,
    progress: bool = True,
    max_pixels: int = MAX_PIXELS,
    learnt: bool = False,
) -> list[dict[str, Any]]:
    """The items, once every image and mask has been read as training reads them.

    Args:
        items: see :func:`labelled_items`.
        labels: the names of interest.
        table: see :class:`.masks.LoadMasksd`.
        progress: show a bar.
        max_pixels: of an image.
        learnt: whether these are what a network learns the labels from: every label must be seen then.

    Raises:
        ValueError: every problem in one message: unreadable, of another size, unknown label, colours not in the map;
            no pixel of any label in any image; or, where they are learnt, a label without a pixel, or without a pixel
            outside it.
    """
    load_image, load_masks = LoadImage2Dd("image", max_pixels=max_pixels), LoadMasksd("label", labels, table)
    problems, present, bounded = [], set(), set()
    shown = flag("progress", progress) and len(items) >= 20
    for item in tqdm(items, desc="checking", unit="image", disable=not shown, leave=False):
        try:
            masks = load_masks(load_image(dict(item)))["label"]
        except ValueError as problem:
            problems.append(str(problem))
            continue
        for name, mask in zip(labels, masks, strict=True):
            if bool(mask.any()):
                present.add(name)
                bounded |= set() if bool(mask.all()) else {name}
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if problems[SHOWN:] else []
        listed = "\n  ".join([*problems[:SHOWN], *more])
        raise ValueError(
            f"{len(problems)} of {len(items)} images cannot be used; mend them or take them away:\n  {listed}"
        )
    if items and not present:
        raise ValueError(
            f"none of {', '.join(labels)} has a pixel in any of the {len(items)} masks; expected masks of these labels"
        )
    if items and learnt:
        _check_learnt(len(items), labels, present, bounded, given=table is None)
    return [dict(item) for item in items]


def _check_learnt(count: int, labels: Sequence[str], present: set[str], bounded: set[str], given: bool) -> None:
    """Raise a ValueError for labels of which nothing can be learnt; only say so where a server's labels are fixed."""
    whole = [name for name in labels if name in present - bounded]
    if whole:
        raise ValueError(
            f"{', '.join(whole)} covers every pixel of every mask that shows it; expected masks with background: is "
            "the mask in another channel of the files, such as alpha?"
        )
    absent = [name for name in labels if name not in present]
    if absent and given:
        raise ValueError(
            f"{', '.join(absent)}: no pixel in any of the {count} images to train on; expected every label in one at "
            "least: give images that show it, another split (--seed, --validation_share), or --labels "
            f"'{json.dumps([n for n in labels if n in present], ensure_ascii=False)}' to train without"
        )
    if absent:
        logger.warning("%s: no pixel in any of the %d images to train on", ", ".join(absent), count)
