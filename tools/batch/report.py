# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""One page about a run: how many, what failed and why, and pictures of the results that are least certain."""

from __future__ import annotations

import base64
import html
import io
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sam_bundles.common.files import whole_file
from tqdm import tqdm

from .bundle import Bundle
from .configuration import Configurations
from .jobs import Job
from .worker import MASKS, reason

NAME = "report.html"
# Pixels of a picture's longer side, and how well it is kept.
SIDE, QUALITY = 1100, 80
# Rows of the table of what failed.
LISTED = 200
STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ddd;padding:.3em .6em;text-align:left;"
    "vertical-align:top;overflow-wrap:anywhere}img{width:100%;background:#000}figure{margin:1.5em 0}"
)


def write_report(
    output: Path,
    jobs: Sequence[Job],
    rows: Mapping[str, Mapping[str, Any]],
    configurations: Configurations,
    worst: int,
    progress: bool = True,
) -> Path:
    """Write ``report.html``, which needs no other file.

    Args:
        output: folder of the run.
        jobs: of the run.
        rows: of the journal, by the jobs' names.
        configurations: of the bundles, to read images again.
        worst: pictures of so many results.
        progress: show a bar.
    """
    done = [job for job in jobs if rows[job.name].get("uncertainty") is not None]
    chosen = sorted(done, key=lambda job: (-rows[job.name]["uncertainty"], job.name))[:worst]
    figures = []
    bundles: dict[str, Bundle] = {}
    networks: dict[str, Any] = {}
    for job in tqdm(chosen, desc="pictures", unit="picture", disable=not progress, leave=False):
        key = json.dumps([job.bundle, job.settings], sort_keys=True, default=str)
        try:
            bundle = bundles.get(key) or bundles.setdefault(key, Bundle(*configurations.of(job), networks))
            figures.append(_figure(rows[job.name], _picture(bundle, job, output / MASKS / job.name, rows[job.name])))
        except Exception as error:  # noqa: BLE001 - a picture that cannot be drawn costs no result
            figures.append(_figure(rows[job.name], "", reason(error)))
    page = _page([rows[job.name] for job in jobs], figures)
    with whole_file(output / NAME) as side:
        side.write_text(page, encoding="utf-8")
    return output / NAME


def _page(rows: Sequence[Mapping[str, Any]], figures: Sequence[str]) -> str:
    counts = Counter(row["status"] for row in rows)
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    wrong = [row for row in rows if row["status"] != "done"]
    noted = [row for row in rows if row.get("warnings")]
    parts = [f"<h1>{len(rows)} images: {html.escape(told)}</h1>"]
    values = [row["uncertainty"] for row in rows if row.get("uncertainty") is not None]
    seconds = [row["seconds"] for row in rows if row.get("seconds") is not None]
    if values:
        low, middle, high = np.percentile(values, (10, 50, 90))
        parts.append(f"<p>Uncertainty: median {middle:.2f}, 10 % below {low:.2f}, 10 % above {high:.2f}.</p>")
    if seconds:
        parts.append(f"<p>Seconds of an image: median {np.median(seconds):.1f}, most {max(seconds):.1f}.</p>")
    for title, found, column in (("Not done", wrong, "reason"), ("With warnings", noted, "warnings")):
        if found:
            parts.append(f"<h2>{title}: {len(found)}</h2>{_table(found[:LISTED], column)}")
    if len(wrong) > LISTED or len(noted) > LISTED:
        parts.append("<p>The rest stands in results.csv.</p>")
    if figures:
        parts.append(f"<h2>The {len(figures)} least certain</h2>{''.join(figures)}")
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{len(rows)} images</title><style>{STYLE}</style>"
    return f"{head}<body>{''.join(parts)}</body></html>\n"


def _table(rows: Sequence[Mapping[str, Any]], column: str) -> str:
    lines = []
    for row in rows:
        told = row[column] if isinstance(row[column], str) else "; ".join(row[column] or ())
        cells = (row["name"], row["status"], told)
        lines.append("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>")
    return f"<table><tr><th>name<th>status<th>{column}</tr>{''.join(lines)}</table>"


def _figure(row: Mapping[str, Any], picture: str, problem: str = "") -> str:
    volumes = [f"{o['name']} {o['volume_ml']} mL" for o in row["objects"] if o.get("volume_ml") is not None]
    told = f"{row['name']}: uncertainty {row['uncertainty']:.2f}" + "".join(f", {v}" for v in volumes)
    drawn = f'<img alt="" src="data:image/jpeg;base64,{picture}">' if picture else f"<p>{html.escape(problem)}</p>"
    return f"<figure>{drawn}<figcaption>{html.escape(told)}</figcaption></figure>"


def _picture(bundle: Bundle, job: Job, folder: Path, row: Mapping[str, Any]) -> str:
    """A JPEG as text."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "picture.png"
        bundle.draw(job.item, folder / row["mask"], path)
        with Image.open(path) as picture:
            small = picture.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    held = io.BytesIO()
    small.save(held, "JPEG", quality=QUALITY)
    return base64.b64encode(held.getvalue()).decode()
