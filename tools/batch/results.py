# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The tables of a run: one row for each image, and one for each object in it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sam_bundles.common.files import whole_files

from .rows import arrow, cell
from .worker import MASKS

RESULTS, OBJECTS = "results", "objects"
COLUMNS = (
    *("name", "image", "status", "seconds", "objects", "volumes_ml", "uncertainty", "warnings", "reason"),
    *("mask", "worker", "tries", "run"),
)
FORMATS = (".csv", ".parquet")


def write_tables(output: Path, rows: Sequence[Mapping[str, Any]]) -> list[Path]:
    """``results`` and ``objects``, each as CSV, and as Parquet where pyarrow is installed; all whole or not at all.

    Args:
        output: folder of the run.
        rows: of the journal, in their order.

    Returns:
        the files.
    """
    kept = list(dict.fromkeys(name for row in rows for name in row.get("kept") or {}))
    images = [_image(row, kept) for row in rows]
    objects = [
        {
            "name": row["name"],
            "image": row["image"],
            "object": one["name"],
            **{k: v for k, v in one.items() if k != "name"},
        }
        for row in rows
        for one in row.get("objects") or ()
    ]
    parquet = arrow()
    with whole_files(output) as side:
        for name, table, columns in (
            (RESULTS, images, [*COLUMNS, *(f"jobs.{name}" for name in kept)]),
            (OBJECTS, objects, list(dict.fromkeys(["name", "image", "object", *(k for one in objects for k in one)]))),
        ):
            with open(side / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(columns)
                writer.writerows([cell(row.get(column)) for column in columns] for row in table)
            if parquet is not None:
                _write_parquet(parquet, side / f"{name}.parquet", table, columns)
        files = [output / file.name for file in sorted(side.iterdir())]
    return files


def _image(row: Mapping[str, Any], kept: Sequence[str]) -> dict[str, Any]:
    found = row.get("objects")
    volumes = {o["name"]: o["volume_ml"] for o in found or () if o.get("volume_ml") is not None}
    return {
        **{column: row.get(column) for column in COLUMNS},
        "objects": None if found is None else len(found),
        "volumes_ml": volumes or None,
        "warnings": "; ".join(row.get("warnings") or ()) or None,
        "mask": f"{MASKS}/{row['name']}/{row['mask']}" if row.get("mask") else None,
        **{f"jobs.{name}": (row.get("kept") or {}).get(name) for name in kept},
    }


def _write_parquet(parquet: Any, path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    import pyarrow

    texts = {"name", "image", "status", "volumes_ml", "warnings", "reason", "mask", "worker", "object"}
    arrays = []
    for column in columns:
        values = [cell(row.get(column)) for row in rows]
        numbers = column not in texts and all(v is None or isinstance(v, (int, float)) for v in values)
        whole = numbers and any(v is not None for v in values) and all(v is None or isinstance(v, int) for v in values)
        kind = pyarrow.int64() if whole else pyarrow.float64() if numbers else pyarrow.string()
        plain = [v if v is None or numbers else str(v) for v in values]
        arrays.append(pyarrow.array([float(v) if numbers and not whole and v is not None else v for v in plain], kind))
    parquet.write_table(pyarrow.table(arrays, names=list(columns)), path)
