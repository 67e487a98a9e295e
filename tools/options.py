# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The options of a bundle's configurations: what each may be, its default, and what it is for.

::

    python -m tools.options fastsam3d
    python -m tools.options fastsam3d rounds cube_size
    python -m tools.options fastsam3d --write

The last writes the bundle's ``docs/options.md``, which a test holds in step.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common.json_files import read_json
from common.options import Options

BUNDLES = Path(__file__).parents[1] / "bundles"
# Whole configurations, on which the others lie.
WHOLE = ("inference.json", "train.json")
HEAD = """# Options of {bundle}

Every option of `python -m monai.bundle run`, given as `--name value`. A value of another type or out of range, and a
name that is not here, are refused before anything is read. What is no option but a part of a configuration is changed
as `--part#key value`. Written by `python -m tools.options {bundle} --write`.

What is refused ends with the sentence that says why, `Error: ...`. Three things MONAI refuses itself, with a traceback,
before anything of this bundle runs: a configuration that is not there (`Cannot find the config file`), `--part#key` of
a part that is not there (`KeyError: 'query key: part'`), and a value that begins with `%`, which to MONAI names a part
(`KeyError` too): write `./%name` for such a file.
"""


def models(bundle: str) -> Iterator[tuple[list[str], type[Options], dict[str, Any]]]:
    """Of each configuration with options of its own: the files, one on top of the other, the model, the defaults."""
    module = importlib.import_module(f"bundles.{bundle}.scripts.options")
    folder = BUNDLES / bundle / "configs"
    contents = {f.name: read_json(f, "a configuration") for f in sorted(folder.glob("*.json"))}
    own = [name for name in contents if "options" in contents[name]]
    for name in sorted(own, key=lambda n: (not n.startswith("inference"), n.startswith(("train", "distill")), len(n))):
        model = getattr(module, contents[name]["options"]["_target_"].split(".")[-2])
        stacks = [[name]] if name in WHOLE else [[base, name] for base in WHOLE]
        for stack in stacks:
            defaults = {key: value for file in stack for key, value in contents[file].items()}
            if defaults.keys() >= model.model_fields.keys():
                yield stack, model, defaults
                break
        else:
            raise ValueError(f"{name}: {model.__name__} has fields that are no ids of it on {' or '.join(WHOLE)}")


def table(model: type[Options], defaults: dict[str, Any], names: Sequence[str] = ()) -> list[str]:
    """Lines of Markdown, one an option in the order of its configuration; ``names`` for some of them."""
    lines = ["| option | what it may be | default | what it is for |", "|---|---|---|---|"]
    for name in (key for key in defaults if key in model.model_fields and (not names or key in names)):
        default = defaults[name] if isinstance(defaults[name], str) else json.dumps(defaults[name])
        cells = (f"`{name}`", model.may_be(name), f"`{default}`", model.model_fields[name].description)
        lines.append(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |")
    return lines


def page(bundle: str) -> str:
    """``docs/options.md`` of the bundle."""
    parts = [HEAD.format(bundle=bundle)]
    for stack, model, defaults in models(bundle):
        title = " with ".join(f"`{name}`" for name in reversed(stack))
        parts.append("\n".join([f"## {title}", "", *table(model, defaults)]) + "\n")
    return "\n".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    known = sorted(file.parts[-3] for file in BUNDLES.glob("*/scripts/options.py"))
    parser = argparse.ArgumentParser(prog="python -m tools.options", description="Show the options of a bundle.")
    parser.add_argument("bundle", choices=known)
    parser.add_argument("name", nargs="*", help="show these options alone")
    parser.add_argument("--write", action="store_true", help="write the bundle's docs/options.md")
    given = parser.parse_args(arguments)
    if given.write:
        path = BUNDLES / given.bundle / "docs" / "options.md"
        path.write_text(page(given.bundle), encoding="utf-8")
        print(path)
        return 0
    found = [(stack, table(model, defaults, given.name)) for stack, model, defaults in models(given.bundle)]
    unknown = [n for n in given.name if not any(n in model.model_fields for _, model, _ in models(given.bundle))]
    if unknown:
        print(f"{', '.join(unknown)}: no options of {given.bundle}; without a name all are shown", file=sys.stderr)
        return 1
    for stack, lines in found:
        if len(lines) > 2:
            print(f"\n{' with '.join(reversed(stack))}\n", *lines, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
