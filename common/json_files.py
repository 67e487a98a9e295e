# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""JSON files that people wrote: any Unicode encoding, with or without a byte order mark. A key must not come twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .files import existing


def read_json(path: str | Path, expected: str) -> Any:
    """The content of a JSON file.

    Args:
        path: of the file.
        expected: what it has to hold, for the messages.

    Raises:
        ValueError: no such file, no JSON, or a key twice.
    """
    path = existing(path, expected)
    return parse_json(path.read_bytes(), str(path), expected)


def parse_json(text: str | bytes, where: str, expected: str) -> Any:
    """The same of a text, or of the bytes of one in UTF-8, UTF-16 or UTF-32; ``where`` names it in messages."""
    try:
        # Of bytes json finds the encoding itself, and takes a byte order mark away.
        return json.loads(text if isinstance(text, bytes) else text.removeprefix("\ufeff"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not valid JSON ({error}); expected {expected}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} comes twice")
    return content
