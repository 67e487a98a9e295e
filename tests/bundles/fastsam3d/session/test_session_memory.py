# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A session of a thousand clicks takes hardly more memory than one of a hundred, and every one can be taken back."""

import tracemalloc

import numpy as np
import pytest
from two_balls import GRID, TRUTH


@pytest.mark.slow
def test_a_thousand_clicks(session):
    click_many(session, 1000)


def test_two_hundred_clicks(session):
    click_many(session, 200)


def click_many(session, count):
    rng = np.random.default_rng(0)
    inner, outer = np.argwhere(TRUTH[0]), np.argwhere(~TRUTH[0])
    session.add_point_interaction(inner[len(inner) // 2].tolist())
    tracemalloc.start()
    try:
        for number in range(1, count):
            on_object = bool(rng.integers(2))
            places = inner if on_object else outer
            session.add_point_interaction(places[rng.integers(len(places))].tolist(), on_object)
            # What the stand-in was asked is for other tests.
            session.engine.network.calls.clear()
            if number == count // 10:
                early = tracemalloc.get_traced_memory()[0]
        late = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(session.prompts) == count and late - early < 12e3 * count
    kept = sum(len(step.difference.bits) for step in session._done if step.difference)
    assert kept < count * np.prod(GRID.shape) / 100, "differences, not masks"
    last = session.mask()
    for _ in range(count):
        session.undo()
    assert not session.can_undo and not session.mask().any()
    for _ in range(count):
        session.redo()
    assert np.array_equal(session.mask(), last)
