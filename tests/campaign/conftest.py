# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The campaign's table, shown after the tests."""

from collections import Counter

import pytest
from verdicts import Verdict

OUTCOMES: Counter = Counter()


@pytest.fixture(scope="session")
def record_outcome() -> Counter:
    """Counts of (group, verdict)."""
    return OUTCOMES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A row a group, a column a class."""
    if not OUTCOMES:
        return
    terminalreporter.section("odd inputs")
    verdicts = list(Verdict)
    terminalreporter.write_line("| kind | inputs | " + " | ".join(v.value for v in verdicts) + " |")
    terminalreporter.write_line("|---|" + "---|" * (len(verdicts) + 1))
    groups = list(dict.fromkeys(group for group, _ in OUTCOMES))
    for group in [*groups, "all"]:
        counts = [
            sum(n for (g, v), n in OUTCOMES.items() if v is verdict and group in (g, "all")) for verdict in verdicts
        ]
        terminalreporter.write_line(f"| {group} | {sum(counts)} | " + " | ".join(map(str, counts)) + " |")
