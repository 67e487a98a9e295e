# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What each prompt of ``fastsam3d`` gives, and whether further right clicks make a mask worse.

::

    python -m tools.research.prompts alone ../shared/data
    python -m tools.research.prompts slice ../shared/data
    python -m tools.research.prompts further ../shared/data --rows runs/further.jsonl

Measured on objects of open volumes, none of them those that the card reports. Each object's figures are a line of
``--rows`` as soon as they are known; a run that was stopped goes on after the last one.
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

from . import alone, further, in_a_slice
from .objects import APART, CHOSEN_ON, OBJECTS, VOLUMES, Engine, development_objects

MEASURES = {"alone": alone, "further": further, "slice": in_a_slice}
GROUPS = {"all": VOLUMES, "chosen-on": CHOSEN_ON, "apart": APART}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(arguments)
    things = development_objects(options.data, options.objects, list(GROUPS[options.volumes]))
    measure = MEASURES[options.what]
    known = _read(options.rows)
    torch.set_num_threads(1)
    engine, rows = Engine(**dict(options.override)), {}
    for thing in tqdm(things, unit="object"):
        rows[thing.name] = known.get(thing.name) or measure.measure(engine, thing)
        if options.rows and thing.name not in known:
            with options.rows.open("a") as file:
                file.write(json.dumps({"object": thing.name, "found": rows[thing.name]}) + "\n")
    if not rows:
        print(
            f"python -m tools.research.prompts: {options.data}: none of {', '.join(VOLUMES)} is there", file=sys.stderr
        )
        return 1
    for group, names in GROUPS.items():
        of_group = {name: row for name, row in rows.items() if name.rpartition(" ")[0] in names}
        if of_group:
            print(f"{group}: {len(of_group)} objects\n\n{measure.table(of_group)}\n")
    return 0


def _read(path: Path | None) -> dict[str, Any]:
    """What a run that was stopped wrote, by object."""
    if path is None or not path.is_file():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {line["object"]: line["found"] for line in lines}


def _override(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    return name, json.loads(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.research.prompts", description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=MEASURES, help="each prompt alone, further right clicks, or a slice")
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--volumes", choices=GROUPS, default="all", help="a group of them (default %(default)s)")
    parser.add_argument("--objects", type=int, default=OBJECTS, help="of each volume at most (default %(default)s)")
    parser.add_argument("--rows", type=Path, help="where each object's figures go, a line each; read first")
    parser.add_argument(
        "--override",
        type=_override,
        action="append",
        default=[],
        metavar="OPTION=JSON",
        help="another value of an option of the engine, such as rounds=1",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
