# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What was done, kept so that it survives a kill at any moment: each worker appends to a file of its own.

A row is there whole or not at all: it is one line, on the disk before anybody is told; a line that was cut off is none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sam_bundles.common.files import whole_file

FOLDER = "journal"
KEPT = "kept.jsonl"


class Journal:
    """The journals in a folder.

    Args:
        output: of the run.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output / FOLDER

    def append(self, writer: str, row: dict[str, Any]) -> None:
        """Add a row to the file of a writer, of which nobody else has the name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{writer}.jsonl"
        with open(path, "ab") as file:
            # After a line that was cut off comes a line of its own.
            start = b"\n" if file.tell() and _last_byte(path) != b"\n" else b""
            file.write(start + json.dumps(row, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def rows(self, writer: str = "*") -> list[dict[str, Any]]:
        """All rows that are whole, of later runs after those of earlier ones."""
        found = [row for path in sorted(self.folder.glob(f"{writer}.jsonl")) for row in _lines(path)]
        return sorted(found, key=lambda row: (row["run"], row["finished"]))

    def last(self) -> dict[str, dict[str, Any]]:
        """The last row of each job by its name."""
        return {row["name"]: row for row in self.rows()}

    def compact(self) -> None:
        """One file in the place of many, with the last row of each job. For when nobody else writes."""
        files = list(self.folder.glob("*.jsonl"))
        rows = self.last().values()
        with whole_file(self.folder / KEPT) as side:
            side.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        for file in files:
            if file.name != KEPT:
                file.unlink()


def _last_byte(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and {"name", "run", "finished"} <= row.keys():
            yield row
