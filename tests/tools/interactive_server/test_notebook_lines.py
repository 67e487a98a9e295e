# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The lines for a notebook in docs/click_anywhere.md are run as they stand there."""

import re

import nibabel as nib
import numpy as np
from interactive_server_help import ROOT, ball, dice


def test_the_lines_of_the_page_write_a_mask(server, tmp_path, monkeypatch):
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "click_anywhere.md").read_text(), re.DOTALL)
    image, truth = ball((40, 48, 56), (20, 24, 28), 11)
    affine = np.diag([1.0, 1.2, 1.5, 1.0])
    nib.save(nib.Nifti1Image(image, affine), tmp_path / "scan.nii.gz")
    monkeypatch.chdir(tmp_path)
    exec(lines.replace("http://127.0.0.1:1527", server), {})
    mask = nib.load(tmp_path / "mask.nii.gz")
    assert np.allclose(mask.affine, affine)
    assert dice(np.asarray(mask.dataobj), truth) > 0.9
