# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""How the small open sets that this project keeps are described and told apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tools.prepare_data.case import About, Case, Choices, Found


class Sample(NamedTuple):
    """A data set that is a few lines in a table, used as the modules beside it are."""

    ABOUT: About
    find: Callable[[Path, Choices], Found]


def sample(title: str, licence: str, where: str, layout: str, find: Callable, notes: str = "") -> Sample:
    """A sample of a few MB."""
    return Sample(About(title, licence, where, "a few MB", layout, notes), find)


def of_patient(case: Case, patient: str) -> Case:
    """The case as one of this patient's."""
    return Case(**{**vars(case), "patient": patient})


def in_section(case: Case, kept: bool) -> Case:
    """The case in the official split: kept for validation, or to train on."""
    return Case(**{**vars(case), "section": "validation" if kept else "training"})
