# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The split into training and validation. A patient is never in both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tools.prepare_data.case import Case

SECTIONS = ("training", "validation", "test")


def sections(cases: Sequence[Case], by: str, share: float, seed: int) -> dict[str, str]:
    """Section of each case, by name: ``training``, ``validation`` or ``test``.

    Args:
        cases: all, also those that turn out to be unreadable, so that a bad file moves nobody else.
        by: ``seed`` to draw patients for validation; ``official`` for the data set's own split, from whose training
            part they are drawn where it has no validation part.
        share: of the patients that is for validation; at least one where it is above 0 and there are two.
        seed: of the draw: the same patients, share and seed give the same split.

    Raises:
        ValueError: ``official`` where the data set does not say where a case belongs.
    """
    if by == "seed":
        return _drawn(cases, share, seed)
    without = [case.name for case in cases if case.section is None]
    if without:
        raise ValueError(f"--split official: nothing says where {without[0]} belongs; use --split seed")
    official = {case.name: case.section for case in cases}
    if "validation" in official.values():
        return official
    return official | _drawn([case for case in cases if case.section == "training"], share, seed)


def _drawn(cases: Sequence[Case], share: float, seed: int) -> dict[str, str]:
    patients = sorted({case.patient for case in cases})
    count = min(len(patients) - 1, max(1, round(share * len(patients)))) if share > 0 else 0
    kept = {patients[i] for i in np.random.default_rng(seed).permutation(len(patients))[:count]}
    return {case.name: "validation" if case.patient in kept else "training" for case in cases}
