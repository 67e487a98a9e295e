# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What a request may hold: every key that a client can set, with its type and range.

MONAI Label hands what it is sent to MONAI's configurations, which evaluate strings, and opens strings as files. So what
is not named here is refused, and no string that is named here is a path or can be an expression.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from typing import Annotated, Any, Literal, TypeVar

import torch
from monailabel.utils.others.generic import device_list, device_map
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

# Numbers in all lists of one request, and lists within lists.
MOST_NUMBERS = 30_000
DEPTH = 4
# Names of studies' images and of what is labelled in them: data alone, wherever they get to.
NAME = re.compile(r"[^$@%./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]{0,127}")
# Words that MONAI Label takes for its own: no label may have them.
RESERVED = re.compile(
    r"_.*|image|image_.*|model|description|session|session_id|logging|timeout|skip_writer|cache_transforms|"
    r"result_.*|pred|pred_.*|save_label|scribble|lasso|previous_mask|text_model|adapter|use_adapter|gpus|multi_gpu"
)
# What pydantic names beside a key that may be of several types.
TYPES = re.compile(r"\[|^(str|float|constrained-str|function-after.*)$")
NO_FILES = "a server opens no file that a request names: send strokes or a mask as the upload 'label'"


def is_name(value: str) -> str:
    """Raise a ValueError for what is no name: a path, a reference or an expression."""
    if not NAME.fullmatch(value):
        raise ValueError("expected a name: no / or \\, no $, @, % or . in front, at most 128 characters")
    if os.path.lexists(value):
        raise ValueError("expected a name, and not that of a file")
    return value


def is_numbers(value: Any) -> Any:
    """Raise a ValueError for anything but finite numbers in lists."""
    todo, seen = [(value, 0)], 0
    while todo:
        item, depth = todo.pop()
        seen += 1
        if isinstance(item, list) and depth < DEPTH:
            todo += [(v, depth + 1) for v in item]
        elif isinstance(item, bool) or not isinstance(item, int | float) or not math.isfinite(item):
            raise ValueError("expected finite numbers in lists, such as [[i, j, k]]")
        if seen > MOST_NUMBERS:
            raise ValueError(f"expected at most {MOST_NUMBERS} numbers")
    return value


def is_device(value: Any) -> Any:
    """Raise a ValueError for a device that is not there: MONAI Label fails in other words, or takes the CPU instead."""
    # Viewers send the list of choices, of which the first one is meant.
    named = value if isinstance(value, list) else [value] if value else []
    for asked in named:
        try:
            torch.zeros(1, device=device_map().get(asked, asked) if isinstance(asked, str) else "")
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ValueError(f"device {asked!r} is not there: expected one of {', '.join(device_list())}") from error
    return named[0] if named else None


Name = Annotated[str, AfterValidator(is_name)]
Text = Annotated[str, StringConstraints(max_length=256)]
# None and [] stand for nothing given, as viewers send them.
Numbers = Annotated[Any, AfterValidator(lambda value: value if value is None else is_numbers(value))]
Device = Annotated[Any, AfterValidator(is_device)]
Weights = Literal["model.pt"] | list[Literal["model.pt"]]
Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Nothing = Literal["", "None", None] | list[Literal["", "None", "mlflow"]]
Extension = Literal[".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".mha", ".png", ".tif"]
Kind = Literal["uint8", "uint16", "int16", "int32", "float32"]


class Given(BaseModel):
    """Keys that are named, and no others."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class Prompts(Given):
    """What is given for one object."""

    foreground: Numbers = None
    background: Numbers = None
    points: Numbers = None
    point_labels: Numbers = None
    box: Numbers = None


class Segment(Given):
    """A segment as a viewer describes it."""

    name: Name
    id: int | None = None
    idx: int | None = None
    color: Numbers = None
    description: Text = ""
    model_name: Text = ""


class Common(Given):
    """Of whatever uses a network."""

    device: Device = None
    model_filename: Weights = "model.pt"
    client_id: Text | None = None


class Infer(Common, Prompts):
    """``params`` of an inference. A key that is not named is a label, with its clicks."""

    model_config = ConfigDict(extra="allow")

    label: Name | Literal[""] | None = None
    labels: list[Name] | Name | None = None
    objects: dict[Name, Numbers | Prompts] | None = None
    roi: Numbers = None
    slice: int | None = None
    reset_state: bool | None = None
    selected_label_name: Name | None = None
    label_info: list[Segment] | None = None
    label_prompt: Numbers = None
    restore_label_idx: bool | None = None
    result_extension: Extension | None = None
    result_dtype: Kind | None = None
    result_compress: bool | None = None

    @model_validator(mode="after")
    def labels_with_clicks(self) -> Infer:
        known = sorted(type(self).model_fields)
        for key, value in self.model_extra.items():
            if key in ("scribble", "lasso", "previous_mask"):
                raise ValueError(f"{key}: {NO_FILES}")
            try:
                if RESERVED.fullmatch(key) or not isinstance(value, list):
                    raise ValueError("it is no option")
                is_numbers(value)
                is_name(key)
            except ValueError as reason:
                raise ValueError(
                    f"{key[:80]!r}: {reason}{nearest(key, known)}; expected one of {', '.join(known)}, or the name of "
                    f"a label with its clicks [[i, j, k]]"
                ) from None
        return self


class Train(Common):
    """Of a training, as MONAI Label offers them."""

    max_epochs: int = Field(50, ge=1, le=100_000)
    val_split: Literal[-1] | Annotated[float, Field(ge=0, lt=1)] = 0.2
    pretrained: bool = True
    multi_gpu: bool = True
    gpus: Annotated[str, StringConstraints(pattern=r"^(all|\d{1,3}(,\d{1,3}){0,63})$")] = "all"
    # Tracking opens addresses and files, and run_id names what is evaluated.
    tracking: Nothing = "None"
    tracking_uri: Nothing = ""
    tracking_experiment_name: Nothing = ""
    run_id: Nothing = ""


class Batch(Common):
    """Of an inference for all images."""

    multi_gpu: bool = True
    gpus: Annotated[str, StringConstraints(pattern=r"^(all|\d{1,3}(,\d{1,3}){0,63})$")] = "all"
    logging: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    save_label: Literal[True] = True
    label_tag: Tag = "original"
    max_workers: int = Field(1, ge=0, le=64)
    max_batch_size: int = Field(0, ge=0)
    labels: list[Name] | Name | None = None
    result_extension: Extension | None = None
    result_dtype: Kind | None = None

    @model_validator(mode="after")
    def beside_finished_labels(self) -> Batch:
        if self.label_tag == "final":
            raise ValueError("label_tag 'final' is for labels that a person finished: expected another tag")
        # MONAI Label divides by the number of GPUs.
        self.multi_gpu = self.multi_gpu and torch.cuda.is_available()
        return self


class Sample(Given):
    """Of the choice of the next image."""

    client_id: Text | None = None


class Scoring(Given):
    """Of a scoring."""

    client_id: Text | None = None


Model = TypeVar("Model", bound=Given)


def read(model: type[Model], params: Any, whole: bool = False) -> dict[str, Any]:
    """``params``, JSON or an object already, with the keys that were given, or all of them.

    Raises:
        ValueError: no object, or one that ``model`` does not allow; with each reason.
    """
    content = parse(params) if isinstance(params, str) else params
    if not isinstance(content, dict):
        raise ValueError(f'params is {str(params)[:80]}: expected an object such as {{"foreground": [[i, j, k]]}}')
    try:
        return model.model_validate(content).model_dump(exclude_unset=not whole, exclude_none=whole)
    except ValidationError as error:
        raise ValueError(describe(error.errors(include_url=False), sorted(model.model_fields))) from None


def parse(text: str) -> Any:
    """JSON without numbers that are none.

    Raises:
        ValueError: no JSON.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    try:
        return json.loads(text or "{}", parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        reason = "too many lists in lists" if isinstance(error, RecursionError) else error
        raise ValueError(
            f'params is not valid JSON ({reason}); expected an object such as {{"foreground": [[i, j, k]]}}'
        ) from None


def describe(errors: list[dict[str, Any]], known: list[str]) -> str:
    """The first reasons, each with its key; a key that may be of several types has one reason for each."""
    reasons: dict[str, list[str]] = {}
    for item in errors:
        # What is left out are the names of types.
        place = ".".join(
            str(part)[:40] for part in item["loc"] if isinstance(part, int) or re.fullmatch(r"[\w ]+", part)
        )
        text = item["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        if item["type"] == "extra_forbidden":
            text = f"no option{nearest(str(item['loc'][-1]), known)}; expected one of {', '.join(known)}"
        reasons.setdefault(place, []).append(text)
    return "; ".join(
        f"{place}: {' or '.join(dict.fromkeys(texts))}" if place else texts[0]
        for place, texts in list(reasons.items())[:3]
    )


def nearest(key: str, known: list[str]) -> str:
    """A remark on the name that was meant, where one is near."""
    near = difflib.get_close_matches(key, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""
