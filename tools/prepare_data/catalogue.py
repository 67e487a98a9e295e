# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""All data sets by the name that the command takes."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from common.json_files import read_json
from tools.prepare_data.case import About, Choices, Found
from tools.prepare_data.sets import samples_2d, samples_3d

FOLDER = Path(__file__).parent
SAMPLES = {**samples_2d.FINDERS, **samples_3d.FINDERS}


class DataSet(NamedTuple):
    """A data set: what a person needs to know of it, and how its cases are found in a folder."""

    about: About
    find: Callable[[Path, Choices], Found]


def _described() -> dict[str, DataSet]:
    rows = read_json(FOLDER / "about.json", "descriptions of data sets")
    return {
        name: DataSet(About(**row), SAMPLES.get(name) or import_module(f"tools.prepare_data.sets.{name}").find)
        for name, row in rows.items()
    }


DATA_SETS = _described()


def explain(name: str) -> str:
    """All that is known of a data set, as text."""
    about = DATA_SETS[name].about
    rows = [("", about.title), ("licence", about.licence), ("from", about.where), ("size", about.size)]
    rows += [("source", about.layout), ("note", about.notes)]
    lines = [name]
    for key, text in rows:
        for line in filter(None, [text] if isinstance(text, str) else text):
            lines += textwrap.wrap(line, 110, initial_indent=f"  {key:8}", subsequent_indent=" " * 12)
            key = ""
    return "\n".join(lines)


def fitting(source: Path) -> list[str]:
    """Names of the data sets of which the folder holds a complete case."""
    names = []
    for name, data_set in DATA_SETS.items():
        try:
            found = data_set.find(source, Choices())
        except ValueError:
            continue
        if found.cases:
            names.append(name)
    return names
