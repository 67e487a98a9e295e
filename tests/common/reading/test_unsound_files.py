# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Damaged files that libraries would accept, or crash on: refused before they see them."""

import gzip
import os
import re
import zlib

import itk
import nibabel as nib
import numpy as np
import pytest
from volumes import grid_around, write_itk

from common.reading.options import Reading
from common.reading.volume import read_volume

GRID = grid_around(np.diag([1.0, 2.0, 3.0]), (20, 18, 16))
VALUES = np.random.default_rng(0).integers(-900, 900, GRID.shape).astype(np.int16)


def packed(path):
    """Compressed as ITK compresses it."""
    image = itk.imread(str(write_itk(path, VALUES, GRID)))
    for plain in path.parent.iterdir():
        plain.unlink()
    itk.imwrite(image, str(path), compression=True)
    return path


def refused(path, message="", **options):
    with pytest.raises(ValueError, match="expected") as caught:
        read_volume(path, Reading(**options))
    assert path.name in str(caught.value) and re.search(message, str(caught.value), re.DOTALL), str(caught.value)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.mhd", "a.nhdr"])
@pytest.mark.parametrize("pack", [False, True])
def test_whole_files_are_read(tmp_path, name, pack):
    path = packed(tmp_path / name) if pack else write_itk(tmp_path / name, VALUES, GRID)
    volume = read_volume(path, exact=True)
    np.testing.assert_array_equal(volume.numpy()[0], VALUES)
    assert volume.numpy().dtype == np.int16


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.mhd", "a.nhdr"])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("damage", ["zeros", "one bit", "cut"])
def test_damaged_compressed_voxels_are_refused(tmp_path, name, place, damage):
    path = packed(tmp_path / name)
    data = next((f for f in tmp_path.iterdir() if f.name != name), path)
    content = bytearray(data.read_bytes())
    start = 0 if data != path else content.index(b"LOCAL") if name == "a.mha" else content.index(b"\n\n")
    at = start + 20 + int((len(content) - start - 25) * place)
    if damage == "zeros":
        content[at : at + 40] = bytes(len(content[at : at + 40]))
    elif damage == "one bit":
        content[at] ^= 16
    data.write_bytes(content[:at] if damage == "cut" else content)
    refused(path, "cannot be read")


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.mhd", "a.nhdr"])
def test_missing_voxels_are_refused(tmp_path, name):
    path = write_itk(tmp_path / name, VALUES, GRID)
    data = next((f for f in tmp_path.iterdir() if f.name != name), path)
    data.write_bytes(data.read_bytes()[:-10])
    refused(path, "11510 bytes of voxels in .* instead of 11520")
    if data != path:
        data.unlink()
        refused(path, "voxels should be in .*, which is no file")


FIELDS = {
    "axes below none": (b"NDims = 3", b"NDims = -3"),
    "axes beyond number": (b"NDims = 3", b"NDims = 999999"),
    "axes as text": (b"NDims = 3", b"NDims = three"),
    "other axes": (b"NDims = 3", b"NDims = 2"),
    "a negative size": (b"DimSize = 20 18 16", b"DimSize = 20 -18 16"),
    "no size": (b"DimSize = 20 18 16", b"DimSize = 0 18 16"),
    "two sizes": (b"DimSize = 20 18 16", b"DimSize = 20 18"),
    "a spacing of text": (b"ElementSpacing = 1 2 3", b"ElementSpacing = 1 2 x"),
    "two spacings": (b"ElementSpacing = 1 2 3", b"ElementSpacing = 1 2"),
    "no direction": (b"TransformMatrix = ", b"TransformMatrix = nan "),
    "an unknown type": (b"MET_SHORT", b"MET_COLOUR"),
    "no end": (b"ElementDataFile = LOCAL\n", b"ElementDataField = LOCAL\n"),
    "endless": (b"NDims", b"Comment = " + b"x" * 100000 + b"\nNDims"),
    "channels below none": (b"NDims", b"ElementNumberOfChannels = -1\nNDims"),
    "a list with nothing after it": (b"ElementDataFile = LOCAL\n", b"ElementDataFile = LIST\n\0\0"),
    "a pattern": (b"ElementDataFile = LOCAL\n", b"ElementDataFile = %s%s%n 1 2 1\n"),
}


NRRD_FIELDS = {
    "axes below none": (b"dimension: 3", b"dimension: -3"),
    "axes beyond number": (b"dimension: 3", b"dimension: 999999"),
    "a negative size": (b"sizes: 20 18 16", b"sizes: 20 -18 16"),
    "two sizes": (b"sizes: 20 18 16", b"sizes: 20 18"),
    "an unknown type": (b"type: short", b"type: block"),
    "two directions": (b"space directions: (-1,0,0)", b"space directions:"),
    "a direction of text": (b"space directions: (-1,0,0)", b"space directions: (-1,0,x)"),
    "no magic": (b"NRRD000", b"NORD000"),
}


HEADERS = [(".mha", change) for change in FIELDS.values()] + [(".nrrd", change) for change in NRRD_FIELDS.values()]


@pytest.mark.parametrize(("ending", "change"), HEADERS, ids=[*FIELDS, *NRRD_FIELDS])
def test_headers_that_no_image_has_are_refused(tmp_path, ending, change):
    path = write_itk(tmp_path / f"a{ending}", VALUES, GRID)
    content = path.read_bytes()
    assert change[0] in content
    path.write_bytes(content.replace(*change, 1))
    refused(path, "cannot be read")


def test_compressed_voxels_of_an_unknown_size_are_refused(tmp_path):
    path = packed(tmp_path / "a.mha")
    path.write_bytes(re.sub(rb"CompressedDataSize = \d+\n", b"", path.read_bytes()))
    refused(path, "CompressedDataSize")


def test_a_list_and_nothing_after_it_is_refused(tmp_path):
    path = write_itk(tmp_path / "a.mha", VALUES, GRID)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"LOCAL")] + b"LIST\n")
    refused(path, "names no file of voxels")


def test_a_list_of_slices_is_read(tmp_path):
    path = write_itk(tmp_path / "a.mha", VALUES, GRID)
    content = path.read_bytes()
    names = [f"slice{k}.raw" for k in range(16)]
    for k, name in enumerate(names):
        (tmp_path / name).write_bytes(VALUES[:, :, k].T.tobytes())
    path.write_bytes(content[: content.index(b"LOCAL")] + b"LIST\n" + "\n".join(names).encode() + b"\n")
    np.testing.assert_array_equal(read_volume(path, exact=True).numpy()[0], VALUES)
    (tmp_path / names[3]).write_bytes(b"short")
    refused(path, "5 bytes of voxels in slice3.raw instead of 720")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.mha", "a.nrrd"])
def test_the_size_of_a_volume_is_known_from_its_header(tmp_path, name):
    """A small file that announces a huge volume takes no memory."""
    path = tmp_path / name
    if "nii" in name:
        header = nib.Nifti1Header()
        header.set_data_dtype(np.uint8)
        header.set_data_shape((1200, 1200, 1200))
        content = header.binaryblock + bytes(100)
        path.write_bytes(gzip.compress(content, mtime=0) if name.endswith("gz") else content)
    else:
        content = write_itk(path, VALUES, GRID).read_bytes()
        path.write_bytes(content.replace(b"20 18 16", b"1200 1200 1200", 1))
    refused(path, "1200 x 1200 x 1200 = 1,728,000,000.*about 16.1 GiB.*at most 1,073,741,824.*raise --max_voxels")
    # Past the limit the file itself is looked at, and is not whole.
    refused(path, "cannot be read", max_voxels=4e9) if "nii" not in name else None


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
@pytest.mark.parametrize("pack", [False, True])
def test_more_voxels_than_the_header_says_are_refused(tmp_path, name, pack):
    """A header that lies about the size shifts every voxel."""
    path = packed(tmp_path / name) if pack else write_itk(tmp_path / name, VALUES, GRID)
    path.write_bytes(path.read_bytes().replace(b"20 18 16", b"20 3 16", 1))
    refused(path, "11520 bytes of voxels in .* instead of 1920")


def test_zlib_and_gzip_streams_that_hold_more_are_read(tmp_path):
    path = packed(tmp_path / "a.mha")
    content = path.read_bytes()
    start = content.index(b"LOCAL\n") + 6
    more = zlib.compress(zlib.decompress(content[start:]) + bytes(64))
    header = re.sub(rb"CompressedDataSize = \d+", b"CompressedDataSize = %d" % len(more), content[:start])
    path.write_bytes(header + more)
    np.testing.assert_array_equal(read_volume(path, exact=True).numpy()[0], VALUES)


# ---- paths


def test_pipes_and_devices_are_refused_and_do_not_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii.gz")
    for path in (tmp_path / "pipe.nii.gz", "/dev/zero"):
        with pytest.raises(ValueError, match="device or pipe.* expected a NIfTI"):
            read_volume(path)


@pytest.mark.parametrize("path", ["x" * 300, "x" * 5000, "a\0b.nii", "~nobody_of_this_name/a.nii"])
def test_paths_that_are_none_are_refused(path):
    with pytest.raises(ValueError) as caught:
        read_volume(path)
    assert len(str(caught.value)) < 400


# ---- numbers


def test_complex_voxels_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(VALUES.astype(np.complex64), GRID.affine), tmp_path / "c.nii.gz")
    refused(tmp_path / "c.nii.gz", "complex voxels.*magnitude")


def test_colour_voxels_are_refused(tmp_path):
    colours = np.zeros(GRID.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, GRID.affine), tmp_path / "c.nii.gz")
    refused(tmp_path / "c.nii.gz", "voxels of colours")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd"])
def test_numbers_that_float32_does_not_hold_are_refused(tmp_path, name):
    values = VALUES.astype(np.float64)
    values[3, 3, 3] = 1e300
    path = tmp_path / name
    nib.save(nib.Nifti1Image(values, GRID.affine), path) if "nii" in name else write_itk(path, values, GRID)
    refused(path, "beyond 3.4e38")


def test_a_unit_that_nifti_does_not_have_is_refused(tmp_path):
    image = nib.Nifti1Image(VALUES, np.eye(4))
    image.header["xyzt_units"] = 5
    nib.save(image, tmp_path / "a.nii.gz")
    refused(tmp_path / "a.nii.gz", "unit of length 5; expected")


def test_an_axis_without_voxels_is_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((0, 4, 5), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    refused(tmp_path / "a.nii.gz", "shape .0, 4, 5.")


def test_an_analyze_file_is_refused(tmp_path):
    nib.AnalyzeImage(VALUES, np.eye(4)).to_filename(tmp_path / "a.hdr")
    refused(tmp_path / "a.hdr", "Analyze file does not say which side is left")


def test_a_nifti_pair_is_read(tmp_path):
    nib.Nifti1Pair(VALUES, GRID.affine).to_filename(tmp_path / "a.hdr")
    volume = read_volume(tmp_path / "a.hdr")
    np.testing.assert_array_equal(volume.numpy()[0], VALUES)
    np.testing.assert_allclose(volume.affine.numpy(), GRID.affine)
