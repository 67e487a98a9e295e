# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Where published weights are found: the tables ``models/sources.json`` of the bundles."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .download import fetch

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


@dataclass(frozen=True)
class Source:
    """A published file.

    Attributes:
        url: of the file itself.
        licence: of the weights, as its authors state it.
        kind: see kinds.KINDS.
        hash_type, hash_val: what the file must have; None where nobody published it.
    """

    url: str
    licence: str = "unknown"
    kind: str | None = None
    hash_type: str = "sha256"
    hash_val: str | None = None


def read_sources() -> dict[str, Source]:
    """All tables by name."""
    tables = (json.loads(path.read_text()) for path in sorted(BUNDLES.glob("*/models/sources.json")))
    return {name: Source(**entry) for table in tables for name, entry in table.items()}


def chosen_source(name: str, sha256: str | None) -> Source:
    """The source of this name, or of this URL; with the hash that the user gives, where the table has none.

    Raises:
        ValueError: neither a name in the tables nor a URL; a second hash.
    """
    sources = read_sources()
    source = sources.get(name)
    if source is None:
        if "://" not in name:
            raise ValueError(f"{name!r} is no known source; expected a URL or one of {', '.join(sources)}")
        return Source(name, hash_val=sha256)
    if sha256 is None:
        return source
    if source.hash_val:
        raise ValueError(f"--sha256 for {name}: its {source.hash_type} is known and checked; leave it out")
    return Source(source.url, source.licence, source.kind, "sha256", sha256)


def bring(source: Source, folder: Path) -> tuple[Path, list[str]]:
    """Fetch a source into a folder; its path there, and what to say of it. Raises ValueError as fetch() does."""
    path = folder / (Path(unquote(urlsplit(source.url).path)).name or "download.pth")
    found = fetch(source.url, path, source.hash_val, source.hash_type)
    notes = [f"fetched from {source.url}, licence: {source.licence}; {path} may be deleted now"]
    if source.hash_val:
        notes.append(f"its {source.hash_type} is the expected one")
    else:
        notes.append(f"nobody published a hash to compare with; its sha256 is {found}, for --sha256 next time")
    return path, notes
