# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A session on two balls in an oblique volume, answered by a network whose answer is known."""

import pytest
from stand_in import ThresholdNetwork
from two_balls import GRID, PAIR

from bundles.fastsam3d.scripts.inference.segment import Segmenter
from bundles.fastsam3d.scripts.session import Engine, Session


@pytest.fixture
def engine() -> Engine:
    return Engine(ThresholdNetwork(), Segmenter(32, window=[-100, 100]))


@pytest.fixture
def session(engine) -> Session:
    session = Session(engine)
    session.set_image(PAIR.image(GRID), {"affine": GRID.affine})
    return session
