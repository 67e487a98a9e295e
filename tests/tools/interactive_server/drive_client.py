# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Run by the Python of another environment: drives every call of the client that is installed there.

``python drive_client.py ADDRESS``
"""

import sys
from importlib.metadata import version

import numpy as np
from nnInteractive.inference.remote import SessionExpiredError
from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession as Client

SHAPE, CENTER = (24, 28, 32), (12, 14, 16)
distances = np.indices(SHAPE) - np.reshape(CENTER, (3, 1, 1, 1))
ball = (distances**2).sum(axis=0) < 8**2
image = (np.random.default_rng(0).normal(0, 20, SHAPE) + 300 * ball).astype(np.float32)
flat = [[12, 13], [7, 22], [9, 24]]
crop = np.ascontiguousarray(ball[12:13, 7:22, 9:24].astype(np.uint8))

with Client(sys.argv[1]) as client:
    mask = np.zeros(SHAPE, np.uint8)
    assert client.ping() and client.supports_undo
    client.set_image(image[None], {"spacing": np.array([1.5, 1.0, 1.0])})
    client.set_target_buffer(mask)
    client.set_do_autozoom(True)
    assert client.add_point_interaction(CENTER, True) and mask[CENTER] == 1
    assert client.undo() and not mask.any() and not client.undo()
    assert client.add_bbox_interaction(flat, True) and mask[CENTER] == 1
    client.add_lasso_interaction(crop, True, interaction_bbox=flat)
    client.add_scribble_interaction(crop, True, interaction_bbox=flat, run_prediction=False)
    client._predict()
    client.reset_interactions()
    assert not mask.any()
    client.add_initial_seg_interaction(ball.astype(np.uint8))
    assert np.array_equal(mask, ball) and client.heartbeat() > 0 and client.lease_status()["remaining_seconds"] > 0
    client._post_json("/release", {})
    try:
        client.undo()
    except SessionExpiredError:
        print(version("nninteractive-client"))
