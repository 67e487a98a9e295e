# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""DICOM series as the grid that their tags describe, or refused with what keeps them from being one."""

import itertools
import re
import shutil

import numpy as np
import pydicom
import pytest
from dicom_files import ROOT, big_endian, dataset, place, save, write_frames, write_series
from volumes import grid_around, rotation

from common.reading.options import Reading
from common.reading.volume import read_volume

SHAPE = (7, 6, 9)
TILTED = np.array([[2.0, 0, 0], [0, 2.0 * np.cos(0.3), 0], [0, -2.0 * np.sin(0.3), 3.0]])
GRIDS = {
    "LPS": grid_around(np.diag([-2.0, -2.0, 3.0]), SHAPE),
    "anisotropic": grid_around(np.diag([-0.6, -0.7, 5.0]), SHAPE),
    "sagittal": grid_around(np.diag([2.0, -1.5, -1.2])[:, [1, 2, 0]], SHAPE),
    "oblique": grid_around(rotation(20, -35, 50) @ np.diag([-1.1, -1.2, 2.5]), SHAPE),
    "tilted gantry": grid_around(TILTED * [-1, -1, 1], SHAPE),
}
PLAIN = GRIDS["LPS"]
VALUES = np.random.default_rng(0).integers(-1000, 2000, SHAPE)


def read(path, **options):
    """Voxels, affine and notes."""
    volume = read_volume(path, Reading(**options))
    return volume.numpy()[0], volume.affine.numpy(), volume.meta["notes"]


def assert_is(path, grid=PLAIN, values=VALUES, note=None, **options):
    """The voxels where they should be, and the only note."""
    found, affine, notes = read(path, **options)
    np.testing.assert_array_equal(found, values)
    np.testing.assert_allclose(affine, grid.affine, atol=1e-5)
    assert (re.search(note, notes[0]) and len(notes) == 1) if note else notes == []


def refused(path, *messages, **options):
    """The whole message."""
    with pytest.raises(ValueError, match="expected") as caught:
        read_volume(path, Reading(**options))
    assert str(caught.value).startswith(str(path))
    for message in messages:
        assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)


# ---- regular


@pytest.mark.parametrize("grid", [pytest.param(g, id=name) for name, g in GRIDS.items()])
def test_a_series_lies_where_its_tags_say(tmp_path, grid):
    flipped = np.linalg.det(grid.affine[:3, :3]) < 0
    # Slices are sorted along rows x columns: a left-handed grid is read from its other end.
    if flipped:
        grid = type(grid)(grid.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 8], [0, 0, 0, 1.0]]), SHAPE)
    assert_is(write_series(tmp_path / "s", VALUES, grid), grid)


@pytest.mark.parametrize("order", ["as they lie", "backwards", "even ones first"])
def test_frames_of_one_file_are_sorted_by_their_own_positions(tmp_path, order):
    orders = {"as they lie": range(9), "backwards": range(8, -1, -1), "even ones first": [*range(0, 9, 2), 1, 3, 5, 7]}
    file = write_frames(tmp_path / "frames.dcm", VALUES, PLAIN, list(orders[order]))
    assert_is(file)
    assert_is(file.rename(tmp_path / "no_suffix"))
    (tmp_path / "folder").mkdir()
    shutil.copy(tmp_path / "no_suffix", tmp_path / "folder" / "IM1")
    assert_is(tmp_path / "folder")


def test_frames_with_scales_of_their_own(tmp_path):
    values = VALUES // 6 * 6 + 2
    assert_is(write_frames(tmp_path / "f.dcm", values, PLAIN, list(range(9)), slopes=True), values=values)


def test_slices_with_scales_of_their_own(tmp_path):
    def double(made, k):
        made.PixelData = (np.frombuffer(made.PixelData, "<u2") // (k + 1)).astype("<u2").tobytes()
        made.RescaleSlope = k + 1

    values = np.stack([(VALUES[..., k] + 1024) // (k + 1) * (k + 1) - 1024 for k in range(9)], axis=-1)
    assert_is(write_series(tmp_path / "s", VALUES, PLAIN, edit=double), values=values)


def test_positions_that_were_rounded_are_even(tmp_path):
    grid = grid_around(np.diag([-0.5, -0.5, 0.625]), SHAPE)
    found, affine, notes = read(write_series(tmp_path / "s", VALUES, grid, digits=1))
    np.testing.assert_array_equal(found, VALUES)
    np.testing.assert_allclose(affine, grid.affine, atol=0.06)
    assert len(notes) == 1 and "off even distances" in notes[0]


def test_big_endian_files(tmp_path):
    assert_is(write_series(tmp_path / "s", VALUES, PLAIN, edit=big_endian))


def test_palettes_of_greys_are_read_by_their_brightness(tmp_path):
    def palette(made, k):
        made.PhotometricInterpretation = "PALETTE COLOR"
        made.PixelData = (VALUES[:, :, k].T + 1024).astype("<u2").tobytes()
        del made.RescaleSlope, made.RescaleIntercept
        for colour in ("Red", "Green", "Blue"):
            setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [4096, 0, 16])
            setattr(made, f"{colour}PaletteColorLookupTableData", (np.arange(4096) * 16).astype("<u2").tobytes())

    assert_is(write_series(tmp_path / "s", VALUES, PLAIN, edit=palette), values=(VALUES + 1024) * 16)


def test_trees_of_study_and_series(tmp_path):
    write_series(tmp_path / "patient" / "STUDY" / "SERIES", VALUES, PLAIN, name="I{}")
    (tmp_path / "patient" / "DICOMDIR").write_bytes(b"\0" * 200)
    (tmp_path / "patient" / ".hidden").write_bytes(b"x")
    assert_is(tmp_path / "patient")
    (tmp_path / "patient" / "README.txt").write_text("about this scan")
    assert_is(tmp_path / "patient", note="1 files are no DICOM images.*README.txt")


# ---- what does not belong to it


def test_an_image_that_is_there_twice_counts_once(tmp_path):
    folder = write_series(tmp_path / "s", VALUES, PLAIN)
    shutil.copy(folder / "IM0497.dcm", folder / "copy of IM0497.dcm")
    assert_is(folder, note="1 images are there twice and count once, such as copy of IM0497.dcm|IM0497")


def test_the_same_pixels_sent_twice_count_once(tmp_path):
    folder = write_series(tmp_path / "s", VALUES, PLAIN)
    write_series(folder, VALUES, PLAIN, keep=[2, 3], first=100, name="again{}.dcm")
    assert_is(folder, note="2 images are there twice")


def test_two_files_of_one_uid_that_differ_are_refused(tmp_path):
    folder = write_series(tmp_path / "s", VALUES, PLAIN)
    write_series(folder, VALUES + 1, PLAIN, keep=[2], name="other{}.dcm")
    with pytest.raises(ValueError, match="SOPInstanceUID of .* and other pixels; remove one"):
        read_volume(folder)


@pytest.mark.parametrize("size", [(12, 10), SHAPE[:2]], ids=["other size", "same size"])
def test_localizers_are_named_and_left(tmp_path, size):
    folder = write_series(tmp_path / "s", VALUES, PLAIN)
    sagittal = grid_around(np.diag([2.0, -2.0, -2.0])[:, [1, 2, 0]], (*size, 1))

    def localizer(made, k):
        made.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    write_series(folder, np.zeros(sagittal.shape), sagittal, edit=localizer, first=90, name="scout{}.dcm")
    assert_is(folder, note="left aside: .*localizer.*scout500.dcm")


def test_a_single_image_of_another_series_is_named_and_left(tmp_path):
    folder = write_series(tmp_path / "s", VALUES, PLAIN)
    write_series(folder, VALUES, PLAIN, keep=[4], series=f"{ROOT}.77", name="report{}.dcm")
    assert_is(folder, note=f"left aside: .*{ROOT}.77 .report496.dcm")


def test_files_without_pixels_are_named(tmp_path):
    folder = write_series(tmp_path / "s", VALUES, PLAIN)
    structures = dataset(f"{ROOT}.9", f"{ROOT}.8", "1.2.840.10008.5.1.4.1.1.481.3")
    save(structures, folder / "structures.dcm")
    assert_is(folder, note="1 files are no DICOM images and were left out: structures.dcm")


# ---- several stacks


def test_two_series_are_listed_for_a_choice(tmp_path):
    folder = write_series(tmp_path / "s", VALUES, PLAIN, series=f"{ROOT}.1")
    write_series(folder, VALUES + 5, PLAIN, series=f"{ROOT}.2", name="B{}.dcm")
    refused(folder, "more than one DICOM series", f"1: CT .*9 images of 7 x 6, axial.*{ROOT}.1; 2: .*{ROOT}.2$")
    for series in (2, "2", f"{ROOT}.2"):
        assert_is(folder, values=VALUES + 5, series=series)
    refused(folder, "series '3' names no stack", series=3)


def acquisition(made, k):
    made.AcquisitionNumber = 4


def echoes(made, k):
    made.EchoTime, made.DiffusionBValue = 30.5, 800.0


@pytest.mark.parametrize(
    ("edit", "said"),
    [(acquisition, "AcquisitionNumber 4"), (echoes, "EchoTime 30.5"), (None, "image 2 of 2 at each position")],
)
def test_two_phases_of_one_series_are_listed_for_a_choice(tmp_path, edit, said):
    folder = write_series(tmp_path / "s", VALUES, PLAIN)
    write_series(folder, VALUES + 5, PLAIN, edit=edit, first=60, name="B{}.dcm")
    refused(folder, "more than one DICOM series or stack", said, "2: CT")
    read_both = [read(folder, series=n)[0] for n in (1, 2)]
    for values in (VALUES, VALUES + 5):
        assert any(np.array_equal(values, found) for found in read_both)
    refused(folder, "names 2 stacks", series=f"{ROOT}.1")


def test_slices_of_two_sizes_are_listed_for_a_choice(tmp_path):
    folder = write_series(tmp_path / "s", VALUES, PLAIN, keep=range(5))
    write_series(folder, VALUES[:5, :4], PLAIN._replace(shape=(5, 4, 9)), keep=range(5, 9), name="B{}.dcm")
    refused(folder, "more than one", "5 images of 7 x 6", "4 images of 5 x 4")


# ---- irregular


@pytest.mark.parametrize(
    ("lost", "said"),
    [([4], "1 of 9 slices at 3 mm are missing: 1 between IM0497.dcm and IM0495.dcm")]
    + [([3, 4, 5], "3 of 9 slices at 3 mm are missing: 3 between IM0498.dcm and IM0494.dcm")]
    + [([1], "1 of 9 slices.*between IM0500.dcm and IM0498.dcm"), ([2, 6], "2 of 9 slices")],
)
def test_slices_that_are_missing_are_listed_or_interpolated(tmp_path, lost, said):
    folder = write_series(tmp_path / "s", VALUES, PLAIN, keep=[k for k in range(9) if k not in lost])
    refused(folder, said, "--irregular resample")
    found, affine, notes = read(folder, irregular="resample")
    assert len(notes) == 1 and re.search(said + ".*interpolated onto 9 slices", notes[0])
    np.testing.assert_allclose(affine, PLAIN.affine, atol=1e-5)
    there = [k for k in range(9) if k not in lost]
    np.testing.assert_array_equal(found[..., there], VALUES[..., there])
    k = lost[0]
    before, after = k - 1, k + len(lost) if lost == [3, 4, 5] else k + 1
    weight = 1 / (after - before)
    np.testing.assert_allclose(
        found[..., k], VALUES[..., before] * (1 - weight) + VALUES[..., after] * weight, atol=1e-3
    )


def test_uneven_slices_are_refused_or_resampled(tmp_path):
    at = np.array([0, 1, 2, 3.4, 4.7, 6, 7, 8, 9.1])
    ramp = np.broadcast_to(np.arange(9)[None, None] * 0, SHAPE).copy()

    def uneven(made, k):
        made.ImagePositionPatient = [*made.ImagePositionPatient[:2], 10 + 3 * float(at[k])]
        made.PixelData = np.full(SHAPE[1::-1], round(1024 + 100 * at[k]), "<u2").tobytes()

    folder = write_series(tmp_path / "s", ramp, PLAIN, edit=uneven)
    refused(folder, "9 slices lie at uneven distances of 3, 3.3, 3.9, 4.2 mm", "--irregular resample")
    found, affine, notes = read(folder, irregular="resample")
    assert "uneven" in notes[0] and "interpolated" in notes[0]
    # A volume that rises evenly in space still does, from the first slice to the last.
    mm = affine[2, 3] + affine[2, 2] * np.arange(found.shape[2])
    np.testing.assert_allclose(found[0, 0], (mm - 10) / 3 * 100, atol=0.6)
    assert mm[0] == pytest.approx(10) and mm[-1] == pytest.approx(10 + 3 * 9.1)


def test_slices_shifted_against_each_other_are_refused(tmp_path):
    def shifted(made, k):
        made.ImagePositionPatient = [made.ImagePositionPatient[0] + (4 if k > 4 else 0), *made.ImagePositionPatient[1:]]

    folder = write_series(tmp_path / "s", VALUES, PLAIN, edit=shifted)
    refused(folder, "shifted against each other")


@pytest.mark.parametrize("damage", ["cut pixels", "cut tags", "junk", "nothing"])
def test_files_that_are_not_whole_are_listed(tmp_path, damage):
    folder = write_series(tmp_path / "s", VALUES, PLAIN)
    for name in ("IM0492.dcm", "IM0496.dcm"):
        content = (folder / name).read_bytes()
        kept = {"cut pixels": content[:-20], "cut tags": content[:400], "junk": b"\1\2" * 300, "nothing": b""}
        (folder / name).write_bytes(kept[damage])
    refused(folder, "2 files cannot be read as DICOM .IM0492.dcm: .*IM0496.dcm: ", "copy them again")
    found, _, notes = read(folder, irregular="resample")
    # The last one cannot be interpolated, and nobody can know that it was there.
    assert found.shape == (7, 6, 8) and "2 files cannot be read" in notes[0] and "1 of 8 slices" in notes[1]


# ---- tags that are missing


@pytest.mark.parametrize("tag", ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"])
def test_slices_that_do_not_say_where_they_lie_are_refused(tmp_path, tag):
    folder = write_series(tmp_path / "s", VALUES, PLAIN, edit=lambda made, k: delattr(made, tag))
    refused(folder, f"9 images .*have no usable {tag}")


@pytest.mark.parametrize("tag", ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"])
@pytest.mark.parametrize("which", [4, 8])
def test_a_slice_that_does_not_say_where_it_lies_is_named(tmp_path, tag, which):
    folder = write_series(tmp_path / "s", VALUES, PLAIN, edit=lambda made, k: k == which and delattr(made, tag))
    lost = [f.name for f in folder.iterdir() if tag not in pydicom.dcmread(f)]
    refused(folder, f"1 images have no usable {tag}: {lost[0]}", "export these again", "--irregular resample")
    found, _, notes = read(folder, irregular="resample")
    assert found.shape == (7, 6, 9 if which == 4 else 8) and any(lost[0] in note for note in notes)


def test_a_slice_of_another_scale_is_named_where_one_is_missing(tmp_path):
    def rescaled(made, k):
        made.PixelSpacing = [3, 3] if k == 4 else made.PixelSpacing

    folder = write_series(tmp_path / "s", VALUES, PLAIN, edit=rescaled)
    other = [f.name for f in folder.iterdir() if pydicom.dcmread(f).PixelSpacing[0] == 3]
    refused(folder, "1 of 9 slices .* missing", f"left aside: .*{other[0]}")


def test_a_direction_that_is_none_is_refused(tmp_path):
    def broken(made, k):
        made.ImageOrientationPatient = [1, 0, 0, 1, 0, 0]

    refused(write_series(tmp_path / "s", VALUES, PLAIN, edit=broken), "ImageOrientationPatient .*right angle")


def test_a_single_slice_is_as_thick_as_it_or_the_user_says(tmp_path):
    folder = write_series(tmp_path / "s", VALUES, PLAIN, keep=[4])
    _, affine, notes = read(folder)
    assert affine[2, 2] == pytest.approx(3) and not notes
    np.testing.assert_allclose(affine[:3, 3], PLAIN.to_mm([0, 0, 4]), atol=1e-5)
    thin = write_series(tmp_path / "t", VALUES, PLAIN, keep=[4], edit=lambda made, k: delattr(made, "SliceThickness"))
    refused(thin, "single slice that does not say how thick", "--slice_thickness")
    _, affine, _ = read(thin, slice_thickness=1.25)
    assert affine[2, 2] == pytest.approx(1.25)


def test_thickness_and_spacing_between_slices_do_not_count_where_there_are_positions(tmp_path):
    def wrong(made, k):
        made.SliceThickness, made.SpacingBetweenSlices = 9, 11

    assert_is(write_series(tmp_path / "s", VALUES, PLAIN, edit=wrong))


def test_a_folder_without_dicom_says_so(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no DICOM image among its files")


@pytest.mark.parametrize(
    "options", [{"irregular": "guess"}, {"slice_thickness": 0}, {"max_voxels": -1}, {"series": 1.5}]
)
def test_options_of_another_form_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is .*expected"):
        Reading(**options)


def test_too_many_voxels_are_refused_before_they_are_read(tmp_path):
    folder = write_series(tmp_path / "s", VALUES, PLAIN)
    refused(folder, "7 x 6 x 9 = 378", "at most 377", "raise --max_voxels", max_voxels=377)
    assert_is(folder, max_voxels=378)


def test_the_order_of_names_and_numbers_does_not_count(tmp_path):
    for n, order in enumerate(itertools.islice(itertools.permutations(range(4)), 0, 24, 7)):
        grid, values = PLAIN._replace(shape=(7, 6, 4)), VALUES[..., :4]
        folder = tmp_path / str(n)

        def number(made, k, order=order):
            made.InstanceNumber = order[k]

        assert_is(write_series(folder, values, grid, edit=number), values=values)


def test_a_mosaic_is_refused(tmp_path):
    def mosaic(made, k):
        made.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]

    refused(write_series(tmp_path / "s", VALUES, PLAIN, edit=mosaic), "mosaic")


def test_files_without_a_preamble_are_dicom(tmp_path):
    folder = write_series(tmp_path / "s", VALUES, PLAIN)
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[132:])
    assert_is(folder)


def test_place_is_what_it_says():
    made = dataset(ROOT, ROOT)
    place(made, PLAIN, 2)
    np.testing.assert_allclose(np.array(made.ImagePositionPatient) * [-1, -1, 1], PLAIN.to_mm([0, 0, 2]), atol=1e-6)
