# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Five hundred odd inputs, each of which is segmented rightly or refused with a sentence.

``python -m pytest tests/campaign -m "slow or not slow"`` runs all of them, one after the other; the summary counts what
came out, by class. An input is made again by its name: add ``-k nifti-017``.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import kinds_dicom
import kinds_headers
import kinds_names
import kinds_nifti
import kinds_numbers
import kinds_options
import kinds_pictures
import kinds_prompts
import kinds_training_data
import numpy as np
import pytest
from bundle_runs import Bundles
from odd_input import Draw, OddInput
from verdicts import judge

# Kinds, and how many inputs are drawn of them: 500.
GROUPS = {
    "nifti": (kinds_nifti, 99),
    "headers": (kinds_headers, 57),
    "dicom": (kinds_dicom, 60),
    "numbers": (kinds_numbers, 48),
    "prompts": (kinds_prompts, 64),
    "names": (kinds_names, 44),
    "options": (kinds_options, 46),
    "pictures": (kinds_pictures, 50),
    "data": (kinds_training_data, 32),
}
# Some whole commands, which take ten seconds each.
COMMANDS = (
    kinds_names.numbers_as_paths,
    kinds_options.misspelt_on_the_command_line,
    kinds_options.sentence_in_a_terminal,
)
# One of each group and a few more in the usual tests.
QUICK = {
    "nifti": 3,
    "headers": 2,
    "dicom": 2,
    "numbers": 2,
    "prompts": 3,
    "names": 2,
    "options": 2,
    "pictures": 2,
    "data": 2,
}
# What is not mended yet; each is taken away with its mend, since an input that passes unexpectedly fails the test.
LEAK = "several clicks drawn at random within one object flood the image; one click does not"
KNOWN_FAULTS = {"prompts-019": LEAK, "prompts-046": LEAK}


def drawn(group: str, number: int, folder: Path) -> OddInput:
    """Input ``number`` of a group, the same each time."""
    kinds = COMMANDS if group == "commands" else GROUPS[group][0].KINDS
    kind = kinds[number % len(kinds)]
    turn = sum(kinds[n % len(kinds)] is kind for n in range(number))
    seed = [list([*GROUPS, "commands"]).index(group), number]
    return kind(Draw(np.random.default_rng(seed), folder, turn))


def _inputs() -> list:
    counts = {**{name: count for name, (_, count) in GROUPS.items()}, "commands": 6}
    params = []
    for group, count in counts.items():
        for number in range(count):
            name = f"{group}-{number:03d}"
            marks = [] if number < QUICK.get(group, 0) else [pytest.mark.slow]
            if name in KNOWN_FAULTS:
                marks.append(pytest.mark.xfail(reason=KNOWN_FAULTS[name], strict=True))
            params.append(pytest.param(group, number, id=name, marks=marks))
    return params


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Both, with everything imported."""
    both = Bundles()
    both.warm(tmp_path_factory.mktemp("warm"))
    return both


# Its own alarm goes off long before pytest's, which would use the same clock.
@pytest.mark.timeout(0)
@pytest.mark.parametrize(("group", "number"), _inputs())
def test_odd_input(
    group: str, number: int, bundles: Bundles, tmp_path: Path, record_outcome: Counter, capsys: pytest.CaptureFixture
) -> None:
    """Right, or refused with a sentence that names what is wrong and what to do."""
    if group == "dicom" and kinds_dicom.pydicom is None:
        pytest.skip("pydicom, which writes the series, is not installed")
    made = tmp_path / "made"
    made.mkdir()
    odd = drawn(group, number, made)
    verdict, why = judge(odd, tmp_path / "out", bundles.run)
    capsys.readouterr()
    record_outcome[group, verdict] += 1
    assert verdict.good, f"{verdict.value}: {odd.said} (expected: {odd.expect}): {why}"
