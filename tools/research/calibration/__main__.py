# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Fit the temperature that makes probabilities of the logits of ``fastsam3d``, and say how far they are off.

::

    python -m tools.research.calibration ../shared/data --rows runs/calibration.jsonl

Clicks on objects of open volumes, none of them those that the card reports; every other volume is fitted on, and the
tables are of the others. Each row is a line of ``--rows`` as soon as it is known; a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from . import collect, fit
from .fit import Scaling


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.research.calibration", description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--rows", type=Path, required=True, help="where the counted logits go, a line each; read first")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.rows.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in options.rows.read_text().splitlines()] if options.rows.is_file() else []
    known = {(row["object"], row["clicks"]) for row in rows}
    with options.rows.open("a") as file:
        for row in tqdm(collect.rows(options.data, {name for name, count in known if count == collect.CLICKS})):
            if (row["object"], row["clicks"]) not in known:
                rows.append(row)
                file.write(json.dumps(row) + "\n")
                file.flush()
    halves = [[r for r in rows if r["half"] == half] for half in ("fit", "measured")]
    if not all(halves):
        print(f"{options.data}: expected openkbp, sunnybrook_lv, mricron_brains or open_ms_mni in it", file=sys.stderr)
        return 1
    print(report(*halves))
    return 0


def report(fitted_on: list[dict[str, Any]], measured: list[dict[str, Any]]) -> str:
    """Markdown."""
    one, two = fit.fitted(fitted_on, with_offset=False), fit.fitted(fitted_on, with_offset=True)
    forms = {"as they were": Scaling(), "temperature": one, "temperature and offset": two}
    lines = [
        f"temperature {1 / one.slope:.2f}; with an offset {1 / two.slope:.2f} and {two.offset:.2f}",
        f"{len(fitted_on)} masks of {len({r['object'] for r in fitted_on})} objects were fitted on, "
        f"{len(measured)} of {len({r['object'] for r in measured})} are measured\n",
        f"| expected calibration error | {' | '.join(forms)} |",
        "|" + "---|" * (1 + len(forms)),
    ]
    groups = {
        "all masks": measured,
        "one click": [r for r in measured if r["clicks"] == 1],
        "three clicks": [r for r in measured if r["clicks"] == collect.CLICKS],
    }
    for name, of in groups.items():
        lines.append(f"| {name} | {' | '.join(f'{fit.error(of, s):.4f}' for s in forms.values())} |")
    for name, scaling in forms.items():
        lines += [f"\n{name}:\n", "| share of voxels | probability | of them the object's |", "|---|---|---|"]
        lines += [f"| {a:.4f} | {b:.3f} | {c:.3f} |" for a, b, c in fit.reliability(measured, scaling)]
    lines += [
        "\n| estimate of the IoU | correlation with Dice | after one click | after three | mean distance from it |",
        "|---|---|---|---|---|",
    ]
    estimates = {
        "the decoder's IoU": lambda r: r["head"],
        "of probabilities as they were": lambda r: fit.likely_iou(r, Scaling()),
        "of probabilities": lambda r: fit.likely_iou(r, one),
        "the decoder's times that of probabilities": lambda r: r["head"] * fit.likely_iou(r, one),
    }
    for name, estimate in estimates.items():
        found = [fit.agreement(of, [estimate(r) for r in of]) for of in groups.values()]
        lines.append(f"| {name} | {' | '.join(f'{f[0]:.2f}' for f in found)} | {found[0][1]:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
