# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Scans that the network never saw, clicked by the client's own session class."""

import nibabel as nib
import numpy as np
import pytest
from interactive_server_help import ROOT, dice
from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession as Client

from common.clicks import error_click

FOLDER = ROOT.parent / "shared" / "data" / "msd_hippocampus"
# The last twenty by name are kept out of training.
KEPT_OUT = sorted(p.name for p in (FOLDER / "images").glob("*.nii.gz"))[-20:]


@pytest.mark.skipif(not KEPT_OUT, reason="needs ../shared/data/msd_hippocampus")
@pytest.mark.parametrize("name", KEPT_OUT[::7])
def test_five_clicks_find_a_hippocampus(server, name):
    image = nib.load(FOLDER / "images" / name)
    truth = np.asarray(nib.load(FOLDER / "labels" / name).dataobj) > 0
    with Client(server) as client:
        client.set_image(np.asarray(image.dataobj)[None], {"affine": image.affine})
        client.set_target_buffer(np.zeros(truth.shape, np.uint8))
        for _ in range(5):
            click = error_click(client.target_buffer > 0, truth)
            client.add_point_interaction(click.voxel, click.label == 1)
    assert dice(client.target_buffer, truth) > 0.8
