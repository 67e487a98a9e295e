# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The commands of all documents, as a shell would call them."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Programs that stand-ins take the place of: they write down what they were called with, and do nothing.
RECORDED = (
    *("python", "python3", "torchrun", "curl", "cp", "apt-get"),
    *("monailabel", "sam-bundles", "pip", "git", "docker", "unzip"),
)
# What documents leave to the reader.
PLACEHOLDERS = {"BUNDLE": "bundles/fastsam3d"}
# Words end with one separator of ASCII, calls with another: no document holds these.
WORD, CALL = "\037", "\036"
RECORDER = """#!/bin/sh
{{ printf '%s\\037' "${{0##*/}}" "$@"; printf '\\036'; }} >> '{log}'
"""


@dataclass(frozen=True)
class Command:
    """One call that a document shows."""

    document: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document}: {' '.join(self.words)}"


def documents() -> list[Path]:
    """All pages for people; the changelog also names what is gone."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    return [ROOT / name for name in listed if name != "CHANGELOG.md"]


def documented_commands(folder: Path) -> list[Command]:
    """Every call in the documents' blocks of bash, with its variables, functions and loops worked out by bash itself.

    Args:
        folder: for the stand-ins.
    """
    log = folder / "calls"
    programs = folder / "bin"
    programs.mkdir()
    for name in (*RECORDED, "record_bash"):
        file = programs / name
        file.write_text(RECORDER.format(log=log))
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    commands = []
    for document in documents():
        # Blocks of one page belong together: a later one uses the variables of an earlier one.
        blocks = re.findall(
            r"^ *```(?:bash|sh)\n(.*?)^ *```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        )
        # A block of options alone goes on with the command before it.
        script = re.sub(r"\n+(?=--)", " \\\n", "\n".join(_script(block).strip() for block in blocks))
        log.write_text("")
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", **_variables(document)}
        done = subprocess.run(
            ["bash", "-c", f"source() {{ :; }}\n{script}"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode:
            raise AssertionError(f"{document}: the blocks of bash end with {done.returncode}: {done.stderr}")
        name = str(document.relative_to(ROOT))
        commands += [Command(name, tuple(call.split(WORD)[:-1])) for call in log.read_text().split(CALL)[:-1]]
    return commands


def modules_in_the_text() -> list[tuple[str, str]]:
    """(document, module) of each ``python -m tools.X`` and ``tools.X`` that stands anywhere in a document."""
    found = []
    for document in documents():
        text = document.read_text(encoding="utf-8")
        for module in re.findall(r"(?:python -m |`)(tools(?:\.[a-z_0-9]+)+)", text):
            found.append((str(document.relative_to(ROOT)), module))
    return list(dict.fromkeys(found))


def _script(block: str) -> str:
    """A block with our own scripts recorded, placeholders filled in, and dots for "and so on" left out."""
    for placeholder, value in PLACEHOLDERS.items():
        block = re.sub(rf"\b{placeholder}\b", value, block)
    block = re.sub(r"\bbash (tools/)", r"record_bash \1", block)
    # The interpreter of an environment, which would be found by its path, and run.
    block = re.sub(r"(?<![\w./])[\w./-]*/bin/(?=(?:python|pip)\b)", "", block)
    return re.sub(r"[ ]\.\.\.$", "", block, flags=re.MULTILINE)


def _variables(document: Path) -> dict[str, str]:
    """``B`` and ``D`` of pages that go on from another page."""
    bundle = next((part for part in document.parts if part in ("ssam_2d", "fastsam3d")), "ssam_2d")
    return {"B": f"bundles/{bundle}", "D": f"--bundle_root bundles/{bundle}", "C": f"bundles/{bundle}/configs"}
