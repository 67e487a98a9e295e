# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What DICOM results say of each label, and of who made it."""

from __future__ import annotations

from typing import NamedTuple

from pydicom.dataset import Dataset

from .codes import Code, Coded, coded

MANUFACTURER = "SAM bundles for MONAI"


class Segment(NamedTuple):
    """A label of a mask.

    Attributes:
        value: in the mask.
        name: for people.
        automatic: found by its name alone; else by prompts of a person.
        colour: red, green, blue, 0 to 1.
    """

    value: int
    name: str
    automatic: bool
    colour: tuple[float, float, float]

    @property
    def algorithm_type(self) -> str:
        """In DICOM's words."""
        return "AUTOMATIC" if self.automatic else "SEMIAUTOMATIC"

    @property
    def coded(self) -> Coded:
        """What it is."""
        return coded(self.name)


class Maker(NamedTuple):
    """Name and version of what made a mask."""

    name: str
    version: str


def code_item(code: Code) -> Dataset:
    """An item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return item
