# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Volumes turned around in memory, voxel for voxel as they were."""

import warnings

import numpy as np
import pytest
import torch
from monai.data import ITKWriter
from monai.transforms import LoadImaged
from volumes import grid_around, rotation

from common.reading import row_order
from common.reading.row_order import in_rows
from common.reading.volume import read_volume

TYPES = ["?", "i1", "u1", "<i2", ">i2", "<u2", ">u4", "<i8", "<f2", "<f4", ">f4", "<f8", ">f8"]


def volume(dtype: str, shape: tuple[int, ...] = (5, 7, 6)) -> np.ndarray:
    """Random numbers with the first axis innermost."""
    return np.asfortranarray(np.random.default_rng(0).integers(0, 100, shape).astype(dtype))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("part", [1, 100, 1 << 26])
def test_voxels_of_any_type_stay_where_they_are(dtype, part, monkeypatch):
    monkeypatch.setattr(row_order, "BYTES", part)
    given = volume(dtype)
    turned = in_rows(given)
    assert turned.dtype == np.float32 and turned.flags.c_contiguous and turned.flags.writeable
    np.testing.assert_array_equal(turned, given)


@pytest.mark.parametrize("shape", [(1, 7, 6), (5, 1, 6), (5, 7, 1), (1, 1, 6), (0, 3, 3)])
def test_thin_and_empty_volumes(shape):
    np.testing.assert_array_equal(in_rows(volume("<i2", shape)), volume("<i2", shape))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 6, 2)])
def test_other_arrays_are_left_as_they_are(shape):
    given = volume("<i2", shape)
    assert in_rows(given) is given
    for other in (np.zeros((3, 4, 5), "<i2"), np.zeros((3, 4, 5), "<c8", order="F"), volume("<i2")[::2]):
        assert in_rows(other) is other


def test_an_array_that_must_not_be_written_to_is_turned_without_a_warning():
    given = volume("<i2")
    given.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(in_rows(given), given)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_what_is_loaded_is_what_monai_loads(tmp_path, name):
    grid, path = grid_around(rotation(20, 30, -40) @ np.diag([-1.0, 2.0, 3.0]), (9, 8, 7)), str(tmp_path / name)
    writer = ITKWriter(output_dtype=np.int16)
    writer.set_data_array(volume("<i2", grid.shape), channel_dim=None)
    writer.set_metadata({"affine": torch.as_tensor(grid.affine)})
    writer.write(path)
    expected = LoadImaged("image", image_only=True, ensure_channel_first=True)({"image": path})["image"]
    loaded = read_volume(path)
    assert loaded.is_contiguous() and torch.equal(loaded.as_tensor(), expected.as_tensor())
    torch.testing.assert_close(loaded.affine, expected.affine)
