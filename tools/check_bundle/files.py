# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Checks of a bundle's files: which there are, how large they are and what they contain."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from monai.bundle import ConfigParser, download_large_files

SERVED = "model.pt"
NEEDED = ("configs/metadata.json", "LICENSE", f"models/{SERVED}")
INFERENCE = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
# What the Zoo takes into its git repository; larger files belong into large_files.yml.
LARGEST_BYTES = 25_000_000
OWN_MODULES = ("common", "tools", "bundles", "tests")
PERSONAL_PATH = re.compile(r"(?<![\w.$])(/home/\w|/Users/\w|/root/|/workspace/|[A-Z]:\\\\)")
TEXT = (".json", ".yaml", ".yml", ".conf", ".py", ".md", ".txt")


def check_large_files(bundle: Path) -> str:
    """Fetch what ``large_files`` lists, as the Zoo does before all else.

    Raises:
        ValueError: an entry without path, URL or the kind of its hash.
    """
    found = [f for f in sorted(bundle.glob("large_files.*")) if f.suffix in (".yml", ".yaml", ".json")]
    if not found:
        return "no large files"
    entries = ConfigParser.load_config_file(str(found[0]))["large_files"]
    for entry in entries:
        lacking = [k for k in ("path", "url") if not entry.get(k)]
        if entry.get("hash_val") and not entry.get("hash_type"):
            # MONAI's default has changed from md5 to sha256.
            lacking.append("hash_type")
        if lacking:
            raise ValueError(f"{found[0].name}: {entry} has no {', '.join(lacking)}")
    download_large_files(bundle_path=str(bundle))
    return f"{len(entries)} large files fetched"


def check_needed(bundle: Path) -> str:
    """Raises ValueError where a file that the Zoo wants is missing."""
    missing = [name for name in NEEDED if not (bundle / name).is_file()]
    if not any((bundle / name).is_file() for name in INFERENCE):
        missing.append(INFERENCE[0])
    if missing:
        raise ValueError(f"missing: {', '.join(missing)}")
    return f"{', '.join(NEEDED)}, {INFERENCE[0]}"


def check_served(bundle: Path) -> str:
    """Raises ValueError where MONAI Label would serve other weights than model.pt.

    It offers the files of models/ that end in .pt in the order of their names' lengths, and loads the first.
    """
    others = sorted(f.name for f in (bundle / "models").glob("*.pt") if f.name != SERVED)
    first = [name for name in others if len(name) <= len(SERVED)]
    if first:
        raise ValueError(
            f"models/{first[0]}: MONAI Label may serve it in the place of {SERVED}, since its name is not longer; "
            "move it into a folder such as models/bases"
        )
    return f"models/{SERVED}"


def check_sizes(bundle: Path) -> str:
    """Raises ValueError where a file is too large for git."""
    sizes = {f.relative_to(bundle): f.stat().st_size for f in bundle.rglob("*") if f.is_file()}
    large = [f"{name} ({size / 1e6:.1f} MB)" for name, size in sizes.items() if size > LARGEST_BYTES]
    if large:
        raise ValueError(
            f"above {LARGEST_BYTES / 1e6:.0f} MB: {', '.join(large)}; list them in large_files.yml instead"
        )
    return f"{len(sizes)} files, the largest {max(sizes.values()) / 1e6:.1f} MB"


def check_text(bundle: Path) -> str:
    """Raises ValueError for paths of one person's machine, and for Python files without a licence or parsed in vain."""
    problems = []
    for file in sorted(f for f in bundle.rglob("*") if f.suffix in TEXT and f.name != "LICENSE"):
        text, name = file.read_text(encoding="utf-8"), file.relative_to(bundle)
        found = PERSONAL_PATH.search(text)
        if found:
            problems.append(f"{name} holds a path of one machine, {text[found.start() : found.start() + 40]!r}")
        if file.suffix == ".py":
            problems += [f"{name} {what}" for what in _python_problems(text)]
    if problems:
        raise ValueError("; ".join(problems[:5]))
    return "no personal paths, a licence in every module, no import from outside the bundle"


def _python_problems(text: str) -> list[str]:
    problems = []
    if text.strip() and "licen" not in text[:400].lower():
        problems.append("has no licence header")
    for node in ast.walk(ast.parse(text)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        problems += [f"imports {n}" for n in names if n.partition(".")[0] in OWN_MODULES]
    return problems
