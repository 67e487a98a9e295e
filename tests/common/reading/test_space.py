# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""One affine for each NIfTI file; masks come back on the file's own grid, from every reader to every writer."""

import re

import nibabel as nib
import numpy as np
import pytest
from dicom_files import write_series
from volumes import grid_around, rotation, write_itk, write_nifti

from common.geometry import Grid
from common.label_volume import EXTENSIONS, save_label_volume
from common.reading.volume import read_volume

SHAPE = (6, 5, 7)
SHEAR = np.array([[1.0, 0.3, 0], [0, 1.0, -0.25], [0, 0, 1.0]])
GRIDS = {
    "RAS": grid_around(np.diag([2.0, 2.0, 2.0]), SHAPE),
    "flipped": grid_around(np.diag([-2.0, 2.0, -2.0]), SHAPE),
    "anisotropic": grid_around(np.diag([0.4, -0.5, 5.0])[:, [2, 0, 1]], SHAPE),
    "oblique": grid_around(rotation(25, -15, 40) @ np.diag([-1.0, 1.5, 2.0]), SHAPE),
    "sheared": grid_around(rotation(10, 0, 30) @ SHEAR @ np.diag([1.0, 1.2, 3.0]), SHAPE),
    "of a microscope": grid_around(rotation(5, 9, 1) @ np.diag([3e-4, 3e-4, 1e-3]), SHAPE, (0, 0, 0)),
}
VALUES = np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.uint8)


def header_of(path, sform=None, qform=None, pixdim=(1.0, 1.0, 1.0), unit="mm", codes=(0, 0)):
    """A file whose header says just that; codes of sform and qform."""
    image = nib.Nifti1Image(VALUES, np.eye(4))
    header = image.header
    if qform is not None:
        header.set_qform(qform, code=1)
    header["pixdim"][1:4] = pixdim
    if sform is not None:
        header["srow_x"], header["srow_y"], header["srow_z"] = np.asarray(sform)[:3]
    header["sform_code"], header["qform_code"] = codes
    header.set_xyzt_units(unit, "sec")
    content = header.binaryblock + b"\0" * 4 + VALUES.tobytes(order="F")
    path.write_bytes(content)
    return path


def affine_of(*sizes, offset=(-3.0, 4.0, 5.0)):
    affine = np.diag([*sizes, 1.0])
    affine[:3, 3] = offset
    return affine


def assert_there_and_back(path, expected, note, tmp_path):
    """The volume lies at ``expected``, mm; a mask of it has the same affine for nibabel as the image has."""
    volume = read_volume(path)
    np.testing.assert_allclose(volume.affine.numpy(), expected, rtol=1e-6)
    assert len(volume.meta["notes"]) == (1 if note else 0)
    assert not note or re.search(note, volume.meta["notes"][0]), volume.meta["notes"]
    target = tmp_path / "mask.nii"
    save_label_volume(target, VALUES, volume.affine.numpy(), path)
    again = read_volume(target, exact=True)
    np.testing.assert_array_equal(again.numpy()[0], VALUES)
    np.testing.assert_allclose(again.affine.numpy(), expected, rtol=1e-6)
    return nib.load(target)


@pytest.mark.parametrize("size", [0.25, 1.5, 3.0])
@pytest.mark.parametrize("code", [1, 2, 4])
def test_a_usable_sform_counts_whatever_pixdim_says(tmp_path, size, code):
    path = header_of(tmp_path / "a.nii", affine_of(size, size, size), pixdim=[1.2] * 3, codes=(code, 0))
    said = f"sform has voxels of {size:.4g} x .*its pixdim of 1.2 x 1.2 x 1.2: the sform counts"
    mask = assert_there_and_back(path, affine_of(size, size, size), said, tmp_path)
    np.testing.assert_array_equal(mask.affine, nib.load(path).affine)
    assert int(mask.header["sform_code"]) == code


def test_a_usable_sform_counts_whatever_the_qform_says(tmp_path):
    sform, qform = affine_of(2, 2, 3), affine_of(1, 1, 1, offset=(0, 0, 0))
    path = header_of(tmp_path / "a.nii", sform, qform, codes=(2, 1))
    mask = assert_there_and_back(path, sform, "sform has voxels of 2 x 2 x 3, its pixdim of 1 x 1 x 1", tmp_path)
    np.testing.assert_array_equal(mask.get_qform(), qform)


BROKEN = {
    "NaN": affine_of(np.nan, 1, 1),
    "infinite": affine_of(1, np.inf, 1),
    "zeros": np.zeros((4, 4)),
    "two axes alike": np.array([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("sform", [pytest.param(s, id=name) for name, s in BROKEN.items()])
def test_an_sform_that_is_none_is_left_out(tmp_path, sform):
    qform = affine_of(2, 2, 3)
    path = header_of(tmp_path / "a.nii", sform, qform, [2, 2, 3], codes=(1, 1))
    mask = assert_there_and_back(path, qform, "sform is no usable affine and was left out: the qform counts", tmp_path)
    # For readers that would take it too.
    assert int(mask.header["sform_code"]) == 0 and np.allclose(mask.affine, qform)
    path = header_of(tmp_path / "b.nii", sform, pixdim=[2, 2, 3], codes=(1, 0))
    # As nibabel has it: x from right to left, the middle at 0.
    middle = affine_of(-2, 2, 3, offset=[5, -4, -9])
    assert_there_and_back(path, middle, "left out: the pixdim counts", tmp_path)


@pytest.mark.parametrize("pixdim", [[0, 1, 1], [np.nan, 1, 1], [1, 1, np.inf]])
def test_a_file_without_any_affine_is_refused(tmp_path, pixdim):
    path = header_of(tmp_path / "a.nii", pixdim=pixdim)
    with pytest.raises(ValueError, match="a.nii.*(no usable sform or qform|cannot be read).*expected"):
        read_volume(path)


def test_a_quaternion_that_is_no_rotation_is_refused(tmp_path):
    path = header_of(tmp_path / "a.nii", qform=affine_of(2, 2, 3), codes=(0, 1))
    content = bytearray(path.read_bytes())
    content[256:268] = np.array([2, 2, 2], "<f4").tobytes()
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a.nii: its qform holds a quaternion that is no rotation.* export"):
        read_volume(path)


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1e-3), ("meter", 1e3), ("unknown", 1), ("mm", 1)])
@pytest.mark.parametrize("form", ["sform", "qform", "pixdim"])
def test_units_are_honoured_and_said(tmp_path, unit, factor, form):
    stored = affine_of(0.5, 0.5, 0.5)
    forms = {"sform": {"sform": stored, "codes": (1, 0)}, "qform": {"qform": stored, "codes": (0, 1)}}
    path = header_of(tmp_path / "a.nii", pixdim=[0.5] * 3, unit=unit, **forms.get(form, {}))
    expected = np.diag([factor] * 3 + [1]) @ nib.load(path).affine
    note = f"unit of length is the {unit}: its voxels of 0.5 x 0.5 x 0.5 are read as" if factor != 1 else ""
    mask = assert_there_and_back(path, expected, note, tmp_path)
    assert mask.header.get_xyzt_units()[0] == unit
    np.testing.assert_array_equal(mask.affine, nib.load(path).affine)


@pytest.mark.parametrize("extension", [".nrrd", ".mha"])
def test_masks_without_a_unit_lie_where_programs_that_ignore_units_see_the_image(tmp_path, extension):
    stored = affine_of(0.5, 0.5, 0.5)
    path = header_of(tmp_path / "a.nii", stored, pixdim=[0.5] * 3, unit="micron", codes=(1, 0))
    own = read_volume(path).meta["original_affine"]
    np.testing.assert_array_equal(own, stored)
    save_label_volume(tmp_path / f"mask{extension}", VALUES, own, path)
    np.testing.assert_allclose(read_volume(tmp_path / f"mask{extension}").affine.numpy(), stored, rtol=1e-6)


@pytest.mark.parametrize(("unit", "factor"), [("um", 1e-3), ("\u00b5m", 1e-3), ("m", 1e3), ("mm", 1), ("", 1)])
def test_units_of_nrrd_are_honoured_and_said(tmp_path, unit, factor):
    path = write_itk(tmp_path / "a.nrrd", VALUES, GRIDS["oblique"])
    content = path.read_bytes().replace(
        b"space origin", f'space units: "{unit}" "{unit}" "{unit}"\nspace origin'.encode()
    )
    path.write_bytes(content)
    volume = read_volume(path)
    np.testing.assert_allclose(volume.affine.numpy(), np.diag([factor] * 3 + [1]) @ GRIDS["oblique"].affine, rtol=1e-5)
    np.testing.assert_allclose(volume.meta["original_affine"], GRIDS["oblique"].affine, rtol=1e-5)
    assert len(volume.meta["notes"]) == (factor != 1)
    path.write_bytes(path.read_bytes().replace(f'"{unit}"'.encode(), b'"cm"', 1).replace(b'"cm"', b'"um"', 1))
    if factor == 1:
        with pytest.raises(ValueError, match="space units .*expected one unit"):
            read_volume(path)


@pytest.mark.parametrize("size", [5e-4, 1e-6, 1e5])
def test_voxels_of_any_size_are_voxels(tmp_path, size):
    path = header_of(tmp_path / "a.nii", affine_of(size, size, 2 * size), pixdim=[size, size, 2 * size], codes=(1, 0))
    assert_there_and_back(path, affine_of(size, size, 2 * size), "", tmp_path)


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("source", [".nii.gz", ".nii", ".mgz", ".nrrd", ".mha", "dicom", "nifti2"])
@pytest.mark.parametrize("grid", [pytest.param(g, id=name) for name, g in GRIDS.items()])
def test_masks_come_back_on_the_grid_of_the_file(tmp_path, grid, source, extension):
    """Every place in space is the same voxel of the image and of the mask."""
    if source == "dicom" and np.abs(np.dot(*(grid.affine[:3, :2] / grid.spacing[:2]).T)) > 1e-6:
        pytest.skip("pixels of DICOM are rectangles")
    path = write(tmp_path, source, grid)
    volume = read_volume(path)
    found = Grid(volume.affine.numpy(), SHAPE)
    inside = grid.to_voxels(found.to_mm(np.argwhere(VALUES >= 0))).round().astype(int)
    np.testing.assert_array_equal(volume.numpy()[0].ravel(), VALUES[tuple(inside.T)])
    if source != "dicom":
        np.testing.assert_allclose(found.affine, grid.affine, atol=1e-5 * grid.spacing.max())
    labels = volume.numpy()[0].astype(np.uint8)
    mask_path = tmp_path / f"mask{extension}"
    save_label_volume(mask_path, labels, found.affine, path)
    mask = read_volume(mask_path, exact=True)
    np.testing.assert_array_equal(mask.numpy()[0], labels)
    np.testing.assert_allclose(mask.affine.numpy(), found.affine, atol=1e-5 * grid.spacing.max())
    if extension in (".nii", ".nii.gz"):
        # No form of the header says another place.
        header = nib.load(mask_path).header
        for name in ("sform", "qform"):
            affine, code = getattr(header, f"get_{name}")(coded=True)
            assert code == 0 or np.allclose(affine, found.affine, atol=1e-4 * grid.spacing.max()), name


def write(folder, source, grid):
    if source == "dicom":
        return write_series(folder / "series", VALUES.astype(int), grid)
    if source == "nifti2":
        image = nib.Nifti2Image(VALUES, grid.affine)
        image.set_sform(grid.affine, code=2)
        nib.save(image, folder / "image.nii")
        return folder / "image.nii"
    path = folder / f"image{source}"
    if source == ".mgz":
        # It holds directions of unit length: no shear.
        nib.save(nib.MGHImage(VALUES, grid.affine), path)
        return path
    if source in (".nrrd", ".mha"):
        return write_itk(path, VALUES, grid)
    sheared = not np.allclose((grid.affine[:3, :3] / grid.spacing).T @ (grid.affine[:3, :3] / grid.spacing), np.eye(3))
    return write_nifti(path, VALUES, grid, qform=0 if sheared else 1)


def test_axes_beyond_nifti_1_are_written_as_nifti_2(tmp_path):
    labels = np.zeros((40000, 2, 1), np.uint8)
    labels[39999] = 1
    affine = affine_of(0.1, 0.1, 1)
    for source in ("image.nrrd", "image.nii"):
        if source.endswith(".nii"):
            nib.save(nib.Nifti2Image(labels, affine), tmp_path / source)
        save_label_volume(tmp_path / "mask.nii.gz", labels, affine, tmp_path / source)
        mask = read_volume(tmp_path / "mask.nii.gz", exact=True)
        np.testing.assert_array_equal(mask.numpy()[0], labels)
        np.testing.assert_allclose(mask.affine.numpy(), affine)
