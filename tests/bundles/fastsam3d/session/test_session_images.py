# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A session's image from a file, a folder, a MetaTensor or an array is the same image in the same place."""

import numpy as np
import pytest
import torch
from dicom_files import write_series
from monai.data import MetaTensor
from two_balls import GRID, LEFT, PAIR, TRUTH
from volumes import dice, write_nifti

from bundles.fastsam3d.scripts.session import Session
from common.geometry import Grid

IMAGE = PAIR.image(GRID)
KINDS = ("nifti", "dicom", "MetaTensor", "tensor", "array", "int16", "big-endian", "not contiguous")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_click_gives_the_same_mask(engine, tmp_path, kind):
    session = Session(engine)
    affine = {"affine": GRID.affine}
    if kind == "nifti":
        session.set_image(write_nifti(tmp_path / "x.nii.gz", IMAGE, GRID))
    elif kind == "dicom":
        session.set_image(str(write_series(tmp_path / "series", IMAGE, GRID)))
    elif kind == "MetaTensor":
        session.set_image(MetaTensor(torch.from_numpy(IMAGE)[None], affine=torch.tensor(GRID.affine)))
    elif kind == "tensor":
        session.set_image(torch.from_numpy(IMAGE), affine)
    elif kind == "array":
        session.set_image(IMAGE[None], affine)
    elif kind == "int16":
        session.set_image(IMAGE.astype(np.int16), affine)
    elif kind == "big-endian":
        session.set_image(IMAGE.astype(">f8"), affine)
    else:
        session.set_image(np.asfortranarray(IMAGE), {"affine": GRID.affine.tolist()})
    # A DICOM series may have its slices in the other order.
    grid = Grid(session.affine, session.shape)
    assert np.allclose(grid.center_mm, GRID.center_mm, atol=1e-3) and grid.shape == GRID.shape
    session.add_point_interaction(PAIR.click(grid))
    assert dice(session.mask(), PAIR.truth(grid)) >= 0.9


def test_the_array_may_be_changed_afterwards(engine):
    given, session = IMAGE.copy(), Session(engine)
    session.set_image(given, {"affine": GRID.affine})
    given[:] = 0
    session.add_point_interaction(LEFT)
    assert dice(session.mask(), TRUTH[0]) >= 0.9


@pytest.mark.parametrize(
    ("properties", "diagonal", "notes"),
    [
        (None, (-1, -1, 1), ["1 mm was assumed", "LPS was assumed"]),
        ({"spacing": (2, 3, 4)}, (-2, -3, 4), ["LPS was assumed"]),
        ({"spacing": [2, 3, 4], "orientation": "ras"}, (2, 3, 4), []),
        ({"orientation": "RPI"}, (1, -1, -1), ["1 mm was assumed"]),
    ],
)
def test_what_is_not_said_is_assumed_and_said(engine, properties, diagonal, notes):
    session = Session(engine)
    session.set_image(IMAGE, properties)
    assert np.array_equal(session.affine, np.diag([*diagonal, 1]))
    assert len(session.notes) == len(notes) and all(n in s for n, s in zip(notes, session.notes, strict=True))


def test_axes_in_another_order(engine):
    session = Session(engine)
    session.set_image(IMAGE, {"spacing": (4, 3, 2), "orientation": "SPL"})
    assert np.array_equal(session.affine[:3, :3], [[0, 0, -2], [0, -3, 0], [4, 0, 0]])


def test_a_file_says_where_it_lies(engine, tmp_path):
    path = write_nifti(tmp_path / "x.nii.gz", IMAGE, GRID)
    with pytest.raises(ValueError, match="beside a file, which says them itself"):
        Session(engine).set_image(path, {"spacing": (1, 1, 1)})
