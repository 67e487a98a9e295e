# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The way for a user who has a server already: the stock app alone, with a bundle copied into it."""

import subprocess
import sys

import nibabel as nib
import numpy as np
from blocks import dice, write_blocks
from servers import running, with_threshold_network

from tools.label_server.app_folder import ROOT, copy_bundle

BLOCK = (slice(12, 24), slice(18, 30), slice(5, 11))


def test_the_stock_app_serves_a_copied_bundle(tmp_path):
    command = [sys.executable, "-m", "monailabel.main", "apps", "--download", "--name", "monaibundle"]
    subprocess.run([*command, "--output", str(tmp_path)], check=True, capture_output=True)
    app = tmp_path / "monaibundle"
    copy_bundle(ROOT / "bundles" / "fastsam3d", app / "model" / "fastsam3d_deepgrow")
    with_threshold_network(app / "model")
    studies = tmp_path / "studies"
    studies.mkdir()
    truth = write_blocks(studies / "image.nii.gz", np.diag([-1.0, -1.0, 2.0, 1]), [BLOCK])
    with running(app, studies, ["fastsam3d_deepgrow"], tmp_path, stock=True) as server:
        info = server.client().info()
        assert info["models"]["fastsam3d_deepgrow"]["type"] == "deepgrow"
        assert "fastsam3d_deepgrow" in info["trainers"]
        mask, answer = server.infer("fastsam3d_deepgrow", "image", label="liver", foreground=[[17, 23, 8]])
        assert dice(np.asarray(mask.dataobj) > 0, truth > 0) > 0.9
        np.testing.assert_allclose(mask.affine, nib.load(studies / "image.nii.gz").affine, atol=1e-4)
        assert answer["objects"][0]["name"] == "liver"
