# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What an option may be, in words: for the error that refuses a value, and for the table of options."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic.fields import FieldInfo

NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "[...]", dict: "{...}"}


@dataclass(frozen=True)
class Said:
    """What a type is called, in place of the words made from it."""

    words: str


def in_words(field: FieldInfo) -> str:
    """What the option may be, such as "a whole number from 1 to 100" or "auto, ct, or [low, high]"."""
    words = [word for kind, metadata in _members(field) for word in _kind(kind, metadata)]
    return _list(list(dict.fromkeys(words)))


def takes(field: FieldInfo, kind: type) -> bool:
    """Whether values of this type can be the option's; numbers and switches are alike here, and lists and tuples."""
    alike = next((a for a in ((bool, int, float, complex), (list, tuple)) if kind in a), (kind,))
    return any((get_origin(member) or member) in alike for member, _ in _members(field))


def _members(field: FieldInfo) -> Iterator[tuple[Any, Sequence[Any]]]:
    """The types that a value may have, each with what narrows it."""
    yield from _flat(field.annotation, field.metadata)


def _flat(annotation: Any, metadata: Sequence[Any]) -> Iterator[tuple[Any, Sequence[Any]]]:
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        unpacked = [m for given in more for m in (given.metadata if isinstance(given, FieldInfo) else [given])]
        yield from _flat(inner, [*unpacked, *metadata])
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _flat(member, metadata)
    else:
        yield annotation, metadata


def _kind(kind: Any, metadata: Sequence[Any]) -> Sequence[str]:
    said = [m.words for m in metadata if isinstance(m, Said)]
    if said:
        return [said[-1]]
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    if kind is type(None):
        return ["null"]
    if get_origin(kind) in (list, tuple):
        inner = [in_words(FieldInfo.from_annotation(part)) for part in get_args(kind)]
        return [f"[{', '.join(inner)}{', ...' * (get_origin(kind) is list)}]"]
    name = NAMES.get(get_origin(kind) or kind, str(kind))
    return [" ".join(filter(None, [name, *_range(metadata)]))]


def _range(metadata: Sequence[Any]) -> Iterator[str]:
    bounds = {type(m): m for m in metadata if isinstance(m, (Ge, Gt, Le, Lt, MultipleOf))}
    if Ge in bounds and Le in bounds:
        yield f"from {bounds[Ge].ge} to {bounds[Le].le}"
    else:
        limits = {Gt: "above", Ge: "of at least", Lt: "below", Le: "of at most"}
        yield " and ".join(f"{w} {getattr(bounds[k], k.__name__.lower())}" for k, w in limits.items() if k in bounds)
    if MultipleOf in bounds:
        yield f"that is a multiple of {bounds[MultipleOf].multiple_of}"


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
