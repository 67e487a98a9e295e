# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""``python -m tools.report RUN... --output FOLDER``: one table and a few plots of several evaluations.

RUN is the output_dir of an evaluate.json, or NAME=FOLDER; runs of one name are repetitions (seeds) and are averaged.
FOLDER gets report.md, report.csv and, as far as the runs have numbers for them, dice_over_clicks.png, per_class.png
(boxes, whiskers from the lowest to the highest case) and parameters.png. With --data-set the figures that the papers
state for it stand in columns of their own, marked as quoted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common.files import check_writable, whole_files
from tools.report.plots import write_plots
from tools.report.quoted import FASTSAM3D, QUOTES, quotes, statement
from tools.report.runs import read_runs
from tools.report.tables import markdown, rows, write_csv

DATA_SETS = (*dict.fromkeys(quote.data_set for quote in QUOTES), *FASTSAM3D)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        check_writable(options.output)
        runs = read_runs(options.runs, dict(options.parameters))
    except ValueError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    stated = quotes(options.data_set)
    text = markdown(runs, stated, statement(options.data_set))
    with whole_files(options.output) as side:
        write_csv(side / "report.csv", rows(runs, stated))
        names = write_plots(side, runs)
        pictures = "".join(f"\n![{Path(name).stem.replace('_', ' ')}]({name})\n" for name in names)
        (side / "report.md").write_text(text + pictures)
    print(text.split("## Mean")[0] + "## Mean" + text.split("## Mean")[1].split("\n## ")[0])
    print(f"written to {options.output}: report.md, report.csv{''.join(f', {name}' for name in names)}")
    return 0


def _count(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not name or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: expected NAME=NUMBER")
    return name, int(number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a metrics.json, or NAME=FOLDER")
    parser.add_argument("--output", type=Path, default=Path("report"), help="folder (default: report)")
    parser.add_argument("--data-set", choices=DATA_SETS, help="quote what the papers state for it")
    parser.add_argument(
        "--parameters", type=_count, nargs="+", default=[], metavar="NAME=NUMBER",
        help="trained numbers of a run; read from adapter.safetensors where one lies in its folder or the one above",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
