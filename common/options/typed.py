# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What was typed, where fire and MONAI make something else of it.

fire reads Python: ``2025_01`` is the number 202501, and what follows a ``#`` a comment. MONAI writes ``#`` in any text
as ``::``, which is how it separates the parts of an id.
"""

from __future__ import annotations

import ast
import sys
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver
from pydantic.fields import FieldInfo

from ..last_sentence import is_command_line
from .words import takes

UNSURE = "MONAI writes # in a text as ::, so that neither can be told from the other"


def as_typed(name: str, seen: Any, field: FieldInfo) -> Any:
    """The option's value as it was typed on MONAI's command line, else as it is seen in the configuration.

    Raises:
        ValueError: a text with ``::`` that was not typed, which may have been ``#``; a key that was typed twice in one
            dictionary, of which fire keeps the last alone.
    """
    text = _typed(name)
    if text is not None:
        twice = _key_twice(text)
        if twice:
            raise ValueError(f"{name}: the key {twice} comes twice; expected every key once")
        read = _read(text)
        if _as_stored(read) == seen and type(_as_stored(read)) is type(seen):
            if takes(field, str) and _is_misread(text, read, field):
                return text
            return read
    if _holds_separator(seen):
        raise ValueError(f"{name} is {seen!r}: {UNSURE}; expected names without # and ::, such as a link to the file")
    return seen


def is_typed(name: str) -> bool:
    """Whether the option stands on MONAI's command line."""
    return _typed(name) is not None


def is_typed_none(name: str) -> bool:
    """Whether ``None`` was typed, which MONAI takes for nothing, so that the configuration's value would stay."""
    text = _typed(name)
    return text is not None and _read(text) is None


def typed_configuration() -> dict[str, Any]:
    """The configuration that the command line names, without what is typed beside it; empty in another program."""
    text = _typed("config_file")
    return ConfigParser.load_config_files(_read(text)) if text is not None else {}


def _read(text: str) -> Any:
    from fire.parser import DefaultParseValue

    return DefaultParseValue(text)


def _typed(name: str) -> str | None:
    """What follows ``--name`` on the command line, the last time; None where it is another program's."""
    if not is_command_line():
        return None
    found = None
    for here, following in zip(sys.argv, [*sys.argv[1:], None], strict=True):
        flag, separator, value = here.partition("=")
        if flag.startswith("-") and flag.lstrip("-").replace("-", "_") == name:
            found = value if separator else following
    return found


def _is_misread(text: str, read: Any, field: FieldInfo) -> bool:
    """Whether fire read something else than the text that was typed, and no other value of the field either."""
    if isinstance(read, str):
        return text.strip()[:1] not in ("'", '"')
    return read is not None and not takes(field, type(read))


def _key_twice(text: str) -> str | None:
    """A key that comes twice in a dictionary, as it was typed; a bare word is a text to fire."""
    try:
        parsed = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    for node in ast.walk(parsed):
        keys = [ast.unparse(key) for key in node.keys if key is not None] if isinstance(node, ast.Dict) else []
        keys = [key.strip("'\"") for key in keys]
        if len(set(keys)) < len(keys):
            return next(key for key in keys if keys.count(key) > 1)
    return None


def _as_stored(value: Any) -> Any:
    """As MONAI keeps it in a configuration."""
    if isinstance(value, dict):
        return {key: _as_stored(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_as_stored(v) for v in value]
    return ReferenceResolver.normalize_id(value) if isinstance(value, str) else value


def _holds_separator(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_separator(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return any(_holds_separator(v) for v in value)
    return isinstance(value, str) and ReferenceResolver.sep in value
