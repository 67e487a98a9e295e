# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A session of a thousand clicks takes hardly more memory than one of a hundred, and every one can be taken back."""

import tracemalloc

import numpy as np
from two_balls import GRID, TRUTH


def test_a_thousand_clicks(session):
    rng = np.random.default_rng(0)
    inner, outer = np.argwhere(TRUTH[0]), np.argwhere(~TRUTH[0])
    session.add_point_interaction(inner[len(inner) // 2].tolist())
    tracemalloc.start()
    try:
        for number in range(1, 1000):
            on_object = bool(rng.integers(2))
            places = inner if on_object else outer
            session.add_point_interaction(places[rng.integers(len(places))].tolist(), on_object)
            # What the stand-in was asked is for other tests.
            session.engine.network.calls.clear()
            if number == 100:
                early = tracemalloc.get_traced_memory()[0]
        late = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(session.prompts) == 1000 and late - early < 12e6
    kept = sum(len(step.difference.bits) for step in session._done if step.difference)
    assert kept < 1000 * np.prod(GRID.shape) / 100, "differences, not masks"
    last = session.mask()
    for _ in range(1000):
        session.undo()
    assert not session.can_undo and not session.mask().any()
    for _ in range(1000):
        session.redo()
    assert np.array_equal(session.mask(), last)
