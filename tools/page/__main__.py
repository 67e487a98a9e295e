# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Click in a scan in the browser; everything is computed on this computer.

::

    python -m tools.page
    python -m tools.page SCAN
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path

import uvicorn
from sam_bundles.common.access import add_options, check_port, read_access
from sam_bundles.common.files import existing
from sam_bundles.common.reading.volume import FORMATS

from sam_bundles import Engine

from ..interactive_server.app import create_app
from ..interactive_server.page import Page
from ..interactive_server.settings import Settings
from .build import build, folders, is_built

VARIABLE = "SAM_BUNDLES_KEY"
SECONDS_TO_START = 120


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="bash tools/click.sh",
        description="Click in a scan in the browser; everything is computed on this computer.",
    )
    parser.add_argument("scan", nargs="?", type=Path, help=f"{FORMATS}; without it the page asks for one")
    parser.add_argument("--no-browser", action="store_true", help="print the address, and open no browser")
    parser.add_argument("--build", action="store_true", help="fetch what the page needs, and end")
    parser.add_argument("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda, cuda:1")
    parser.add_argument("--weights", default=None, metavar="FILE", help="other weights than models/model.pt")
    parser.add_argument("--verbose", action="store_true", help="log every request")
    add_options(parser, "--api-key", VARIABLE, None, port=1528)
    return parser


def main(given: list[str] | None = None) -> int:
    """Build the page where it is not, load the weights, serve, open the browser."""
    options = arguments().parse_args(given)
    level = logging.INFO if options.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(message)s")
    try:
        if not is_built():
            print("fetching the viewer NiiVue, once", flush=True)
            build()
        if options.build:
            return 0
        access = read_access(
            options.host, options.token, options.allow_host, options.allow_origin, options.max_upload, "--api-key"
        )
        scan = existing(str(options.scan), FORMATS, folders=True).resolve() if options.scan else None
        check_port(options.host, options.port)
        chosen = {"device": options.device, "ckpt_path": options.weights}
        engine = Engine.load(**{name: value for name, value in chosen.items() if value is not None})
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    app = create_app(Settings(**vars(access)), engine, Page(folders(), scan))
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{host}:{options.port}/"
    if options.token == "":
        print(f"key, as the password of the log-in: {access.token}")
    print(f"{address} is the page; Ctrl+C ends it", flush=True)
    if not options.no_browser:
        threading.Thread(target=open_when_up, args=(address,), daemon=True).start()
    uvicorn.run(app, host=options.host, port=options.port, log_level="info" if options.verbose else "warning")
    return 0


def open_when_up(address: str) -> None:
    """Open the browser once the server answers."""
    until = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{address}healthz", timeout=5).close()
            break
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
    if not webbrowser.open(address):
        print(f"no browser could be opened: open {address} in one", flush=True)


if __name__ == "__main__":
    sys.exit(main())
