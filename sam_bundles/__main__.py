# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""``sam-bundles COMMAND``: segment one scan or many, serve clicks to viewers, or click in the browser.

::

    sam-bundles segment scan.nii.gz --click 120 98 40
    sam-bundles batch jobs.csv --output out
    sam-bundles serve
    sam-bundles click scan.nii.gz
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module

# For each command the module that has its ``main``, what it needs beside the project, and what it does.
COMMANDS = {
    "segment": ("sam_bundles.segment", None, "segment a scan by clicks or a box, and write the mask"),
    "serve": ("sam_bundles.interactive_server.__main__", "server", "serve clicks to 3D Slicer, napari and ITK-SNAP"),
    "batch": ("sam_bundles.batch.__main__", None, "segment many images, and write a table of the results"),
    "click": ("sam_bundles.page.__main__", "page", "click in a scan in the browser"),
}


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"Error: {name!r}: there is no such command\n\n{_usage()}", file=sys.stderr)
        return 2
    module, extra, _ = COMMANDS[name]
    try:
        command: Callable[[list[str]], int] = import_module(module).main
    except ModuleNotFoundError as error:
        if extra is None or str(error.name).startswith("sam_bundles"):
            raise
        print(
            f"Error: sam-bundles {name} needs the package {error.name}: expected pip install 'sam-bundles[{extra}]'",
            file=sys.stderr,
        )
        return 1
    return command(rest)


def _usage() -> str:
    lines = [f"  {name:<9}{what}" for name, (_, _, what) in COMMANDS.items()]
    return "\n".join(["usage: sam-bundles COMMAND ...; sam-bundles COMMAND --help says more", "", *lines])


if __name__ == "__main__":
    sys.exit(main())
