# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Rows of a table: CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sam_bundles.common.files import existing
from sam_bundles.common.json_files import parse_json

KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
EXPECTED = "a table of jobs: CSV, TSV, JSON lines (.jsonl) or Parquet, with a column image"
ARROW = "pip install 'sam-bundles[batch]'"


class Row(NamedTuple):
    """One of a table.

    Attributes:
        where: in the file.
        cells: by column, without empty ones.
        problem: why it is no row; empty where it is one.
    """

    where: str
    cells: dict[str, Any]
    problem: str = ""


def read_rows(path: Path) -> list[Row]:
    """All rows.

    Raises:
        ValueError: no such file, or one that cannot be read as a table at all.
    """
    place = existing(path, EXPECTED)
    kind = place.suffix.lower()
    if kind not in KINDS:
        raise ValueError(f"{path}: ends with {kind!r}; expected {EXPECTED}")
    if kind == ".parquet":
        rows = list(_parquet(place))
    else:
        try:
            text = place.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}: not UTF-8 ({error.reason} at byte {error.start}); expected {EXPECTED}"
            ) from error
        rows = list(_json_lines(text) if kind in (".jsonl", ".ndjson") else _delimited(place, text))
    if not rows:
        raise ValueError(f"{path}: no rows; expected {EXPECTED}")
    return [row._replace(cells={k: v for k, v in row.cells.items() if v is not None and v != ""}) for row in rows]


def _delimited(path: Path, text: str) -> Iterator[Row]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        twice = sorted({name for name in header if header.count(name) > 1})
        if "image" not in header or twice or "" in header:
            told = f"columns {', '.join(map(repr, header))}"
            raise ValueError(f"{path}: {told}; expected {EXPECTED}, and different names separated by {delimiter!r}")
        for cells in reader:
            where = f"line {reader.line_num}"
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            problem = (
                "" if len(cells) == len(header) else f"{len(cells)} cells; expected {len(header)}, as in the header"
            )
            yield Row(where, dict(zip(header, cells, strict=False)), problem)
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num}: {error}; expected {EXPECTED}") from error


def _json_lines(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            cells = parse_json(line, where, "an object {column: value}")
            problem = "" if isinstance(cells, dict) else f"{type(cells).__name__}; expected an object {{column: value}}"
        except ValueError as error:
            cells, problem = {}, str(error).removeprefix(f"{where}: ")
        yield Row(where, cells if not problem else {}, problem)


def _parquet(path: Path) -> Iterator[Row]:
    parquet = arrow()
    if parquet is None:
        raise ValueError(f"{path}: Parquet needs the package pyarrow: expected {ARROW}, or another kind of table")
    try:
        table = parquet.read_table(path).to_pylist()
    except Exception as error:  # noqa: BLE001 - pyarrow raises of many kinds
        raise ValueError(
            f"{path}: no Parquet file ({str(error).splitlines()[0][:200]}); expected {EXPECTED}"
        ) from error
    if table and "image" not in table[0]:
        raise ValueError(f"{path}: columns {', '.join(table[0])}; expected {EXPECTED}")
    for number, cells in enumerate(table, start=1):
        yield Row(f"row {number}", cells)


def arrow() -> Any:
    """``pyarrow.parquet``, or None where it is not installed."""
    try:
        from pyarrow import parquet
    except ModuleNotFoundError:
        return None
    return parquet


def cell(value: Any) -> Any:
    """A value as one cell of a CSV: lists and dictionaries as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value
