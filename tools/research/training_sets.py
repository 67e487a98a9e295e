# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The data list that the shipped weights of ``fastsam3d`` are trained on.

::

    python -m tools.research.training_sets ../shared/data runs/sets.json

It holds the volumes of :mod:`tools.labelled_volumes`: in ``training`` what a weight may be trained on, in
``validation`` what is kept out. Each item names its data ``set``, for the shares of a training. ``--more`` adds the
sets that came later; those of them that are kept out are in ``development``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from common.files import whole_files
from tools.labelled_volumes import MORE_SETS, SETS, labelled_pairs


def data_list(data: Path, more: bool = False) -> dict[str, list[dict[str, Any]]]:
    """The content of the list; ``more`` for the sets that came later too.

    Raises:
        ValueError: none of the sets is in the folder.
    """
    content: dict[str, list[dict[str, Any]]] = {"training": [], "validation": []}
    if more:
        content["development"] = []
    for pair in labelled_pairs(data, {**SETS, **MORE_SETS} if more else SETS):
        item = {
            "image": str(pair.image.absolute()),
            "label": str(pair.label.absolute()),
            "label_names": {str(value): name for value, name in pair.names.items() if value},
            "set": pair.name.split("/")[0],
        }
        kept = "development" if item["set"] in MORE_SETS else "validation"
        content[kept if pair.validation else "training"].append(item)
    if not content["training"]:
        raise ValueError(f"{data}: none of the sets {', '.join(SETS)} is there; expected the data sets' folder")
    return content


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.research.training_sets", description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("output", type=Path, help="the list, JSON")
    parser.add_argument("--more", action="store_true", help=f"also {', '.join(MORE_SETS)}")
    options = parser.parse_args(arguments)
    try:
        content = data_list(options.data, options.more)
    except ValueError as error:
        print(f"python -m tools.research.training_sets: {error}", file=sys.stderr)
        return 1
    with whole_files(options.output.absolute().parent) as side:
        (side / options.output.name).write_text(json.dumps(content, indent=1) + "\n")
    counts = Counter(item["set"] for item in content["training"])
    print(f"{options.output}: {', '.join(f'{count} of {name}' for name, count in counts.items())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
