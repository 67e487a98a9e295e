# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Dependencies point one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What must not be imported, or named as a module, by the files below a folder.
FORBIDDEN = {
    "common": ("bundles", "tools", "tests"),
    "bundles": ("bundles", "common", "tools", "tests"),
    "tools": ("tests", "tools.research"),
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_nothing_imports_upward(folder):
    files = [f for f in (ROOT / folder).rglob("*.py") if "research" not in f.relative_to(ROOT).parts]
    assert len(files) > 20
    for file in files:
        for name in imported(file):
            met = [f for f in FORBIDDEN[folder] if name == f or name.startswith(f"{f}.")]
            assert not met, f"{file.relative_to(ROOT)} imports {name}"
