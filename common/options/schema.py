# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A configuration's options as one pydantic model: their names, types, ranges and what they are for.

A configuration names its model as a component, ``"options": {"_target_": "scripts.options.Inference.checked"}``, and
evaluates ``@options`` first.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from monai.bundle import ConfigExpression, ReferenceResolver
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from ..last_sentence import end_with_the_sentence
from .resolving import is_being_resolved, resolver_that_calls
from .typed import as_typed, is_typed, is_typed_none, typed_configuration
from .words import in_words, takes


class Options(BaseModel):
    """The base of each configuration's model: a field is an id at the configuration's top level.

    Defaults stand in the configuration alone. Ids that are no field are parts of the workflow, which MONAI builds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    # Ids with a value that nothing may refer to: here what configurations say of themselves, for those who read them.
    others: ClassVar[tuple[str, ...]] = ("experiment",)
    # The model of the configuration that this one lies on: options of it that are none of this one's do nothing here.
    below: ClassVar[type[Options] | None] = None

    @classmethod
    def checked(cls) -> Options:
        """The options of the configuration that is being resolved; references to them yield the checked values then.

        A command line's words are taken as they were typed: ``--output_dir 2025_01`` is a folder, although fire reads a
        number, and ``out#2`` too, although MONAI writes ``out::2``.

        Raises:
            ValueError: an id that is neither an option nor used by the workflow, with the nearest option; a value of
                another type or out of its range; an expression that cannot be evaluated. All that is found, at once.
        """
        resolver = resolver_that_calls()
        given = {name: resolver.items[name].get_config() for name in cls.model_fields if name in resolver.items}
        if str(given.get("debug")).lower() != "true":
            end_with_the_sentence()
        given.update({name: None for name in given if is_typed_none(name)})
        plain = {name: value for name, value in given.items() if not _is_reference(value)}
        known = {*cls.model_fields, *cls.others, *(cls.below.model_fields if cls.below else ())}
        # What a part referred to is unused where a value took its place.
        problems = [_no_option(name) for name in _replaced(resolver) if name not in known] or [
            _unknown(name, cls.model_fields) for name in _unused(resolver) if name not in known
        ]
        problems += [_without_effect(name, cls.below) for name in cls._idle(resolver) if not problems]
        values: dict[str, Any] = {}
        for name, value in plain.items():
            try:
                values[name] = cls.check_value(name, as_typed(name, value, cls.model_fields[name]))
            except ValueError as problem:
                problems.append(str(problem))
        if problems:
            raise ValueError("\n".join(problems))
        resolver.resolved_content.update(values)
        # Expressions may have been evaluated from the unchecked values before.
        waiting = {name: value for name, value in given.items() if name not in plain}
        for name in waiting:
            resolver.remove_resolved_content(name)
        for name in _in_order(waiting):
            values[name] = cls.check_value(name, _evaluated(resolver, name, given[name]))
            resolver.resolved_content[name] = values[name]
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ValueError("\n".join(e["msg"].removeprefix("Value error, ") for e in error.errors())) from None

    @classmethod
    def may_be(cls, name: str) -> str:
        """What the option may be, in words."""
        return in_words(cls.model_fields[name])

    @classmethod
    def _idle(cls, resolver: ReferenceResolver) -> list[str]:
        """Options of the configuration below that were typed, and that do nothing here."""
        below = cls.below.model_fields if cls.below else ()
        # What stands in a configuration may be its default, or an experiment's that says how to train as well.
        return [name for name in below if name not in cls.model_fields and name in resolver.items and is_typed(name)]

    @classmethod
    def check_value(cls, name: str, value: Any) -> Any:
        """The value of one option as its type has it. Raises ValueError for one that is none."""
        field = cls.model_fields[name]
        if takes(field, type(None)) and isinstance(value, str) and value in ("", "null"):
            return None
        try:
            return TypeAdapter(Annotated[field.annotation, field]).validate_python(value)
        except ValidationError as error:
            said = [str(e["ctx"]["error"]) for e in error.errors() if e["type"] == "value_error"]
            raise ValueError("; ".join(said) or f"{name} is {_short(value)}: expected {cls.may_be(name)}") from None


def _is_reference(value: Any) -> bool:
    """Whether MONAI makes something else of it, or of what is in it: an expression, or a reference to another id."""
    if isinstance(value, (list, Mapping)):
        return any(_is_reference(v) for v in (value.values() if isinstance(value, Mapping) else value))
    if not isinstance(value, str):
        return False
    return ConfigExpression.is_expression(value) or bool(ReferenceResolver.match_refs_pattern(value))


def _in_order(waiting: Mapping[str, Any]) -> list[str]:
    """The options that are references, those first that others refer to.

    What MONAI resolved once refers to the values of others and no more to the others: it would not wait for them.
    """
    order: list[str] = []

    def add(name: str) -> None:
        for other in waiting:
            refers = re.search(rf"@{other}\b|\['{other}'\]", str(waiting[name]))
            if other != name and other not in order and refers:
                add(other)
        if name not in order:
            order.append(name)

    for name in waiting:
        add(name)
    return order


def _evaluated(resolver: ReferenceResolver, name: str, expression: str) -> Any:
    try:
        return resolver.get_resolved_content(name)
    except Exception as error:
        reason = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        raise ValueError(
            f"{name} is {_short(expression)}: MONAI evaluates what begins with $ or @, and could not "
            f"({type(reason).__name__}: {str(reason).splitlines()[0]}); for a file of that name write ./{expression}"
        ) from error


# What MONAI Label writes into every configuration that it reads.
OF_SERVERS = ("use_click",)


def _unused(resolver: ReferenceResolver) -> list[str]:
    """The ids at the top with a value that no part refers to, and that are no part themselves: misspelt options."""
    top = [name for name in resolver.items if name and resolver.sep not in name and not name.startswith("_")]
    used = {name.split(resolver.sep)[0] for name in resolver.resolved_content}
    for item in resolver.items.values():
        if isinstance(item.get_config(), str):
            used.update(name.split(resolver.sep)[0] for name in resolver.match_refs_pattern(item.get_config()))
    top = [name for name in top if name not in OF_SERVERS]
    left = {name: resolver.items[name].get_config() for name in top if name not in used and not is_being_resolved(name)}
    return [name for name, value in left.items() if value is not None and not _is_part(value)]


def _replaced(resolver: ReferenceResolver) -> list[str]:
    """Parts of the workflow in whose place a number, a text or a switch was typed."""
    before = typed_configuration()
    now = {name: resolver.items[name].get_config() for name in before if name in resolver.items}
    parts = [name for name in now if isinstance(before[name], (list, Mapping)) or _is_reference(before[name])]
    return [n for n in parts if isinstance(now[n], (str, int, float)) and not _is_reference(now[n])]


def _is_part(value: Any) -> bool:
    """Whether it is built or evaluated by MONAI: a component, or a list of expressions or references."""
    if isinstance(value, list):
        return bool(value) and all(_is_reference(v) or _is_part(v) for v in value)
    return isinstance(value, Mapping) and any(k == "_target_" or _is_part(v) for k, v in value.items())


def _unknown(name: str, fields: Mapping[str, FieldInfo]) -> str:
    near = difflib.get_close_matches(name, fields, 1)
    remedy = f"did you mean {near[0]}?" if near else f"the options are {', '.join(fields)}"
    return f"{name}: there is no such option; {remedy}"


def _without_effect(name: str, below: type[Options]) -> str:
    return f"{name}: it has no effect here; expected it with {below.__doc__.rstrip('.')} alone"


def _no_option(name: str) -> str:
    return f"{name}: this is a part of the workflow and no option; expected --{name}#ARGUMENT for one of its arguments"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
