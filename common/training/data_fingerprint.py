# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A short hash of a training's data: a resumed run must use the same images, masks and split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# As many problems as a person reads at once.
SHOWN = 5


def data_fingerprint(**sections: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The items of each section, in their order, each as ``NAME HASH``.

    The hash covers all that an item says, such as the names of its labels. In the place of a path it covers the
    name and the bytes of the file, or of all files below a folder: a data set that was moved stays the same, one whose
    file was edited does not. Every file is read once.

    Args:
        sections: lists of items, such as ``training`` and ``validation``, whose paths are absolute.
    """
    return {name: [_item_line(item) for item in items] for name, items in sections.items()}


def data_differences(before: Mapping[str, Sequence[str]], now: Mapping[str, Sequence[str]]) -> list[str]:
    """What differs between two fingerprints, in words, the first few of each section."""
    found = []
    for section in dict.fromkeys([*before, *now]):
        old, new = list(before.get(section, ())), list(now.get(section, ()))
        if old == new:
            continue
        lines = []
        if len(old) != len(new):
            lines.append(f"had {len(old)} items, has {len(new)}")
        pairs = [(i, a, b) for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b]
        lines += [_difference(i, a, b) for i, a, b in pairs[:SHOWN]]
        if len(pairs) > SHOWN:
            lines.append(f"and {len(pairs) - SHOWN} more")
        found.append(f"{section}: {', '.join(lines)}")
    return found


def _difference(index: int, before: str, now: str) -> str:
    old, new = (line.rpartition(" ")[0] for line in (before, now))
    return f"item {index} was {old}, is {new}" if old != new else f"item {index}, {new}, has another content"


def _item_line(item: Mapping[str, Any]) -> str:
    described = json.dumps(_described(item), sort_keys=True)
    return f"{Path(str(item['image'])).name} {hashlib.blake2b(described.encode(), digest_size=8).hexdigest()}"


def _described(value: Any) -> Any:
    """The value with the content of files in the place of their paths, fit for JSON."""
    if isinstance(value, Mapping):
        # Keys that are no text, such as label values, keep their order apart from their kind.
        return {str(k): _described(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_described(v) for v in value]
    if isinstance(value, (str, Path)):
        place = Path(value).expanduser()
        if place.is_absolute() and place.exists():
            return [place.name, _content(place)]
        return str(value)
    return value


def _content(place: Path) -> str:
    files = [place] if place.is_file() else sorted(f for f in place.rglob("*") if f.is_file())
    content = hashlib.blake2b(digest_size=16)
    for file in files:
        if file != place:
            content.update(f"\0{file.relative_to(place)}\0".encode())
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                content.update(block)
    return content.hexdigest()
