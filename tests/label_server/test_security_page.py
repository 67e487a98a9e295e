# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""docs/security.md names a test for each of its sentences, and these tests are there."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parents[1] / "docs" / "security.md"


def test_each_promise_names_its_tests():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    promises = [line for line in lines if line.startswith("| ") and "`test_" in line]
    assert len(promises) > 10
    for promise in promises:
        for file, name in re.findall(r"`(test_\w+)\.py::(test_\w+)`", promise):
            text = "\n".join(p.read_text(encoding="utf-8") for p in TESTS.parent.rglob(f"{file}.py"))
            assert f"def {name}(" in text, promise
