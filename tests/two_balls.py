# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Two balls in an oblique, flipped, anisotropic volume."""

import numpy as np
from volumes import Phantom, grid_around, rotation

GRID = grid_around(rotation(10, 20, 5) @ np.diag([2.0, -2.0, 3.0]), (60, 60, 30))
PAIR = Phantom(((4, -30, 45), (6, 7, 6)), ((20, -30, 45), (6, 7, 6)), ramp=4)
LEFT, RIGHT = PAIR.click(GRID, 0), PAIR.click(GRID, 1)
TRUTH = [PAIR.truth(GRID, ball) for ball in (0, 1)]
# Half-open boxes around them.
BOXES = [[[int(v.min()), int(v.max()) + 1] for v in np.nonzero(truth)] for truth in TRUTH]
# A voxel outside both, in the cube of the left one.
BESIDE = GRID.to_voxels(np.array([4, -30, 45]) + [0, 10, 0]).round().astype(int).tolist()
