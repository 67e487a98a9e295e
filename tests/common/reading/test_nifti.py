# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""NIfTI volumes read as MONAI reads them, by whatever unpacks them."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import LoadImaged
from volumes import grid_around, rotation

from common.reading import nifti
from common.reading.nifti import SLICES, read_nifti
from common.reading.volume import CONTENT, DEFAULT, read_volume

TYPES = ["i1", "u1", "<i2", ">i2", "<u2", ">u4", "<i8", "<f4", ">f4", "<f8", ">f8"]
GRID = grid_around(rotation(20, 30, -40) @ np.diag([-1.0, 2.0, 3.0]), (9, 8, 7))


@pytest.fixture(params=["isal", "zlib"])
def unpacker(request, monkeypatch):
    """What unpacks."""
    if request.param == "isal":
        pytest.importorskip("isal", reason="isal is not installed")
    else:
        monkeypatch.setattr(nifti, "gzip", gzip)


def write(path, voxels, affine=GRID.affine, kind=nib.Nifti1Image, slope=None):
    """A file, its numbers stored as they are."""
    image = kind(voxels, affine, dtype=voxels.dtype)
    image.header.set_slope_inter(*((slope, -3.0) if slope else (1, 0)))
    nib.save(image, path)
    return str(path)


def both(path):
    """What MONAI and what this project makes of a file."""
    plain = LoadImaged("image", image_only=True, ensure_channel_first=True)({"image": path})["image"]
    return plain, read_volume(path)


def assert_same(path):
    """Voxels, affine and shape, and the voxels' order in memory."""
    expected, loaded = both(path)
    assert loaded.is_contiguous() and loaded.dtype == torch.float32
    assert torch.equal(loaded.as_tensor(), expected.as_tensor())
    assert loaded.meta.keys() <= {*expected.meta, "notes", CONTENT}
    assert tuple(loaded.meta["spatial_shape"]) == tuple(expected.meta["spatial_shape"])
    torch.testing.assert_close(loaded.affine, expected.affine, rtol=0, atol=0)
    torch.testing.assert_close(loaded.meta["original_affine"], expected.meta["original_affine"], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "A.NII.GZ"])
@pytest.mark.parametrize("dtype", TYPES)
def test_voxels_of_any_type_are_those_that_monai_loads(tmp_path, unpacker, name, dtype):
    voxels = np.random.default_rng(0).integers(0, 100, GRID.shape).astype(dtype)
    assert_same(write(tmp_path / name, voxels))


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("slope", [None, 0.37])
@pytest.mark.parametrize("depth", [1, SLICES - 1, SLICES, SLICES + 1, 5 * SLICES + 3])
def test_volumes_of_any_depth_scaled_or_not(tmp_path, unpacker, kind, slope, depth):
    voxels = np.random.default_rng(0).integers(-900, 900, (4, 3, depth), dtype=np.int16)
    assert_same(write(tmp_path / "a.nii.gz", voxels, kind=kind, slope=slope))


def test_the_voxels_are_turned(tmp_path, unpacker):
    path = tmp_path / "a.nii.gz"
    write(path, np.random.default_rng(0).random(GRID.shape, dtype=np.float32))
    stored = read_nifti(path, DEFAULT)
    assert stored.values.flags.c_contiguous and stored.values.dtype == np.float32
    np.testing.assert_array_equal(stored.values, nib.load(path).get_fdata(dtype=np.float32))
    np.testing.assert_array_equal(stored.affine, nib.load(path).affine)


@pytest.mark.parametrize(
    ("stored", "read"),
    [((5, 4), (5, 4)), ((5, 4, 3, 2), (5, 4, 3, 2)), ((5, 4, 3, 1), (5, 4, 3)), ((5, 4, 3, 1, 1), (5, 4, 3))]
    + [((5, 4, 3, 1, 2), (5, 4, 3, 2)), ((5, 4, 1), (5, 4, 1)), ((5, 4, 3, 1, 1, 1), (5, 4, 3))],
)
def test_axes_beyond_the_third_of_one_voxel_are_left_out(tmp_path, unpacker, stored, read):
    path = tmp_path / "a.nii.gz"
    voxels = np.random.default_rng(0).integers(0, 9, stored, dtype=np.int16)
    write(path, voxels)
    for exact in (False, True):
        values = read_nifti(path, DEFAULT, exact).values
        assert values.dtype == (np.int16 if exact else np.float32)
        np.testing.assert_array_equal(values, voxels.reshape(read))


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.99])
def test_a_file_that_was_cut_is_refused(tmp_path, unpacker, kept):
    path = tmp_path / "a.nii.gz"
    write(path, np.random.default_rng(0).integers(0, 999, (32, 32, 3 * SLICES), dtype=np.int16))
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ValueError, match="cannot be read"):
        read_volume(path)


def test_a_file_that_lacks_voxels_is_refused(tmp_path, unpacker):
    path = tmp_path / "a.nii.gz"
    write(path, np.random.default_rng(0).integers(0, 999, (16, 16, 3 * SLICES), dtype=np.int16))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1000]))
    with pytest.raises(ValueError, match="cannot be read"):
        read_volume(path)


def test_damaged_voxels_are_refused(tmp_path, unpacker):
    path = tmp_path / "a.nii.gz"
    write(path, np.random.default_rng(0).integers(0, 999, (32, 32, 3 * SLICES), dtype=np.int16))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read"):
        read_volume(path)


def test_volumes_are_known_by_their_voxels(tmp_path, unpacker):
    def content(name, voxels, **kwargs):
        return read_volume(write(tmp_path / name, voxels, **kwargs)).meta.get(CONTENT, name)

    voxels = np.random.default_rng(0).integers(0, 99, (6, 4, 3 * SLICES), dtype=np.int16)
    other = voxels.copy()
    other[-1, -1, -1] += 1
    known = content("a.nii.gz", voxels)
    assert content("b.nii.gz", voxels, affine=np.eye(4)) == content("c.nii", voxels) == known
    volumes = {
        "other": content("d.nii.gz", other),
        "scaled": content("e.nii.gz", voxels, slope=0.5),
        "turned": content("f.nii.gz", voxels.transpose(1, 0, 2)),
        "four axes": content("g.nii.gz", other[..., None]),
    }
    assert len({known, *volumes.values()}) == 5, volumes
