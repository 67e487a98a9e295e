# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The types of options that several configurations have, as pydantic checks them."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from ..reading.options import IRREGULAR
from .words import Said


def _path_as_text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _no_switch(value: Any) -> Any:
    # To Python true is 1: an option without its value would pass for a number.
    if isinstance(value, bool):
        raise PydanticCustomError("number", "true or false instead of a number")
    return value


def _rising(window: tuple[float, float]) -> tuple[float, float]:
    if not window[0] < window[1]:
        raise PydanticCustomError("window", "the lowest is not below the highest")
    return window


Text = Annotated[str, BeforeValidator(_path_as_text), Field(min_length=1), Said("a text")]
Path = Annotated[str, BeforeValidator(_path_as_text), Field(min_length=1, pattern=r"^[^\x00]*$"), Said("a path")]
# What is added to a file's name: in one with a slash the folder would be missing, after all the work.
Postfix = Annotated[
    str, Field(pattern=r"^[^/\\\x00]*$", max_length=100), Said("a part of a file's name, without / and \\")
]
Switch = Annotated[bool, Said("true or false")]
Whole = Annotated[int, BeforeValidator(_no_switch)]
Number = Annotated[float, BeforeValidator(_no_switch), Field(allow_inf_nan=False)]
Bytes = Annotated[Whole, Field(ge=0), Said("a whole number of bytes, 0 or more")]
Device = Annotated[str, BeforeValidator(str), Field(min_length=1), Said("auto, cpu, cuda or cuda:NUMBER")]
Window = (
    Literal["auto", "ct", "percentile"]
    | Annotated[tuple[Number, Number], AfterValidator(_rising), Said("[low, high] with low < high")]
)
Points = Annotated[list[Any], Said("a list of points")]
Marks = Annotated[list[Any], Said("a list of 1 and 0")]
Box = Annotated[list[Any], Said("[lowest corner, highest corner]")]
Objects = Annotated[dict[str, Any], Said("{name: prompts}")]
Image = (
    Path
    | Annotated[dict[str, Any], Said("{image: path, ...} with prompts of its own")]
    | Annotated[list[Path | dict[str, Any]], Field(min_length=1), Said("a list of these")]
)
Names = Annotated[list[Text], Said("a list of names")]
Count = Annotated[Whole, Field(ge=1)]
FromZero = Annotated[Whole, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Rate = Annotated[Number, Field(gt=0, le=1)]
Irregular = Literal[IRREGULAR]
Series = Annotated[int | str, Said("the number of a stack or a SeriesInstanceUID")]
Positive = Annotated[Number, Field(gt=0)]
Seed = Annotated[Whole, Field(ge=0, lt=1 << 32)]
