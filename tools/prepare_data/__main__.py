# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""``python -m tools.prepare_data NAME SOURCE OUTPUT``: from a data set as distributed to a MONAI data list.

Files stay where they are unless they have to be converted or you ask for resampling; labels become index maps (labels
that overlap: one mask each). Resampled labels keep their values (nearest neighbour). Intensities are left to the
training's configuration. OUTPUT gets data_list.json, summary.json and report.md. A stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from common.json_files import parse_json
from common.label_table import FORM
from tools.prepare_data.case import Choices
from tools.prepare_data.catalogue import DATA_SETS, explain
from tools.prepare_data.run import prepare


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        labels = parse_json(options.labels, "--labels", FORM) if options.labels else None
        if labels is not None and not isinstance(labels, dict):
            raise ValueError(f"--labels {options.labels}: expected {FORM}")
        choices = Choices(options.contrast, options.modality, labels, options.images, options.masks)
        summary = prepare(
            options.name,
            options.source,
            options.output,
            choices,
            spacing=_spacing(options.spacing),
            size=options.size,
            slices=options.slices,
            split_by=options.split,
            validation=options.validation,
            seed=options.seed,
            workers=options.workers,
            progress=not options.no_progress,
        )
    except ValueError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    counts = ", ".join(f"{n} {section}" for section, n in summary["items"].items())
    print(f"{summary['cases']} cases ({counts} images), {summary['left_out']} left out")
    print(f"{len(summary['problems'])} problems, all in {options.output / 'report.md'}")
    print(f"data list: {options.output / 'data_list.json'} (its dataset_dir is {options.output})")
    return 0


def _spacing(given: list[float] | None) -> tuple[float, float, float] | None:
    if not given:
        return None
    if len(given) not in (1, 3) or not all(0 < s < 1000 for s in given):
        raise ValueError(f"--spacing {given}: expected one positive number or three, in mm")
    return tuple(given * 3)[:3] if len(given) == 1 else tuple(given)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a share of the patients, at least 0 and below 1")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.prepare_data",
        description=__doc__,
        epilog="Data sets:\n\n" + "\n\n".join(explain(name) for name in DATA_SETS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=DATA_SETS, metavar="NAME", help="of the data set, see below")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="its folder, unpacked; nothing is written into it")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="a new folder, or that of the run to go on with")
    parser.add_argument("--split", choices=("seed", "official"), default="seed", help="by patient and seed (default)")
    parser.add_argument("--validation", type=_share, default=0.2, help="share of the patients (default 0.2)")
    parser.add_argument("--seed", type=int, default=0, help="of the split (default 0)")
    parser.add_argument("--spacing", type=float, nargs="+", metavar="MM", help="resample volumes: one number or three")
    parser.add_argument("--size", type=_positive, metavar="PIXELS", help="resample pictures: the longer edge")
    parser.add_argument("--slices", choices=("no", "labelled", "all"), help="of volumes, axial, as images for ssam_2d")
    parser.add_argument("--contrast", help="of a multi-channel image: name or number")
    parser.add_argument("--modality", help="only cases of this one, for example CT or MR (amos22)")
    parser.add_argument(
        "--labels", metavar="JSON", help='names where the set has none: {"1": "liver"} or {"polyp": [200, 0, 200]}'
    )
    parser.add_argument("--images", metavar="PATTERN", help='for pairs: "scans/*_img.nrrd", the * names the case')
    parser.add_argument("--masks", metavar="PATTERN", help='for pairs: "scans/*_seg.nrrd"')
    parser.add_argument(
        "--workers", type=_positive, default=os.cpu_count() or 1, help="processes (default: one a core)"
    )
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    return parser


if __name__ == "__main__":
    sys.exit(main())
