# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Serve clicks in CT and MR volumes to 3D Slicer, napari, ITK-SNAP and Python, on a computer without a GPU.

::

    python -m tools.interactive_server
    python -m tools.interactive_server --host 192.0.2.7 --api-key
"""

from __future__ import annotations

import argparse
import logging
import os
import sys

from sam_bundles.common.access import add_options, check_port, read_access

from .orientation import ASSUMED, checked_orientation
from .settings import Settings

# The variable that nninteractive-client reads too.
VARIABLE = "NN_INTERACTIVE_API_KEY"


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.interactive_server",
        description="Serve clicks in CT and MR volumes to 3D Slicer, napari, ITK-SNAP and Python.",
        epilog="What to do in each of them: docs/click_anywhere.md. What the server promises: docs/security.md.",
    )
    add_options(parser, "--api-key", VARIABLE, os.environ.get(VARIABLE), port=1527)
    parser.add_argument(
        "--max-sessions", type=int, default=4, metavar="N", help="clients at once, each with one image in memory (4)"
    )
    parser.add_argument(
        "--idle-timeout", type=float, default=600, metavar="S", help="seconds that a client may do nothing (600)"
    )
    parser.add_argument(
        "--liveness-timeout",
        type=float,
        default=60,
        metavar="S",
        help="seconds without a heartbeat after which a client is taken for dead (60)",
    )
    parser.add_argument(
        "--orientation",
        default=ASSUMED,
        metavar="LETTERS",
        help=f"where the axes i, j, k of a scan point whose client does not say ({ASSUMED}: axial, to the left, to the "
        f"back, to the head); a wrong guess costs accuracy, never the place of the mask",
    )
    parser.add_argument("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda, cuda:1")
    parser.add_argument("--weights", default=None, metavar="FILE", help="other weights than models/model.pt")
    parser.add_argument("--verbose", action="store_true", help="log every request")
    return parser


def read_settings(options: argparse.Namespace) -> Settings:
    """What the options say.

    Raises:
        ValueError: an option out of its range, or other computers let in without a key.
    """
    for name in ("max_sessions", "idle_timeout", "liveness_timeout"):
        if not getattr(options, name) > 0:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(options, name):g}: expected a positive number")
    access = read_access(
        options.host, options.token, options.allow_host, options.allow_origin, options.max_upload, "--api-key"
    )
    return Settings(
        **vars(access),
        max_sessions=options.max_sessions,
        idle_timeout=options.idle_timeout,
        liveness_timeout=options.liveness_timeout,
        orientation=checked_orientation(options.orientation),
    )


def main(given: list[str] | None = None) -> int:
    """Check what was asked for, load the weights, serve."""
    options = arguments().parse_args(given)
    level = logging.INFO if options.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(message)s")
    try:
        settings = read_settings(options)
        check_port(options.host, options.port)
        # They take seconds to import: whoever asks for help, or errs, need not wait for them.
        import uvicorn

        from sam_bundles import Engine

        from .app import create_app

        chosen = {"device": options.device, "ckpt_path": options.weights}
        app = create_app(settings, Engine.load(**{k: v for k, v in chosen.items() if v is not None}))
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if options.token == "":
        print(f"key: {settings.token}")
    print(
        f"http://{options.host}:{options.port} serves up to {settings.max_sessions} clients; Ctrl+C ends it", flush=True
    )
    uvicorn.run(app, host=options.host, port=options.port, log_level="info" if options.verbose else "warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())
