# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Image files of every kind: their pixels where they were, in the depth that they had."""

import json

import itk
import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from dicom_files import ROOT, dataset, save
from pictures import HEIGHT, WIDTH, gradient, write_dicom_slice, write_png16
from PIL import Image

from bundles.ssam_2d.scripts.image_files import read_pixels
from bundles.ssam_2d.scripts.images import SAM_MEAN, SAM_STD, LoadImage2Dd, to_display
from bundles.ssam_2d.scripts.view import Normalised


def load(path, **options) -> torch.Tensor:
    return LoadImage2Dd("image", **options)({"image": str(path)})["image"]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_8_bit_files_come_back_exactly_rows_first(tmp_path, suffix, channels):
    values = gradient(channels)
    Image.fromarray(values).save(tmp_path / f"a{suffix}")
    image = load(tmp_path / f"a{suffix}")
    assert image.shape == (3, HEIGHT, WIDTH) and image.dtype == torch.float32
    expected = values[..., None].repeat(3, axis=-1) if channels == 1 else values
    assert np.array_equal(image.numpy(), np.moveaxis(expected.astype(np.float32), -1, 0))
    assert image.meta["spatial_shape"].tolist() == [WIDTH, HEIGHT]
    assert image.meta["pixel_mm"].tolist() == [0, 0]


def test_jpeg_is_nearly_the_same_and_says_that_it_is_not_turned(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(gradient(3)).save(tmp_path / "a.jpg", quality=95, exif=exif)
    pixels = read_pixels(tmp_path / "a.jpg")
    assert pixels.values.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(pixels.values.astype(int) - gradient(3)).mean() < 4
    assert "EXIF" in pixels.notes[0]


def test_16_bit_files_keep_their_depth(tmp_path):
    grey, colour, alpha = gradient(1, np.uint16, 4000), gradient(3, np.uint16, 4000), gradient(4, np.uint16, 4000)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey).save(tmp_path / "grey.tif", compression="tiff_lzw")
    write_png16(tmp_path / "colour.png", colour)
    write_png16(tmp_path / "alpha.png", alpha)
    image = itk.image_from_array(colour, ttype=itk.VectorImage[itk.US, 2])
    itk.ImageFileWriter[itk.VectorImage[itk.US, 2]].New(Input=image, FileName=str(tmp_path / "colour.tif")).Update()
    for name, values in (
        ("grey.png", grey[..., None]),
        ("grey.tif", grey[..., None]),
        ("colour.png", colour),
        ("colour.tif", colour),
    ):
        assert np.array_equal(read_pixels(tmp_path / name).values, values), name
    assert np.array_equal(read_pixels(tmp_path / "alpha.png").values, alpha[..., :3])
    shown = load(tmp_path / "grey.png")
    # 12 bits in 16: by the percentiles, not by the type's own range.
    assert shown.min() == 0 and shown.max() == 255 and 100 < shown.mean() < 155


def test_alpha_palette_and_binary(tmp_path):
    Image.fromarray(gradient(4)).save(tmp_path / "rgba.png")
    pixels = read_pixels(tmp_path / "rgba.png")
    assert np.array_equal(pixels.values, gradient(4)[..., :3]) and pixels.notes == ["the alpha channel was left out"]
    Image.fromarray(gradient(3)).quantize(256).save(tmp_path / "palette.png")
    assert np.abs(read_pixels(tmp_path / "palette.png").values.astype(int) - gradient(3)).mean() < 10
    Image.fromarray(gradient(1) > 100).save(tmp_path / "binary.png")
    assert np.array_equal(read_pixels(tmp_path / "binary.png").values[..., 0], (gradient(1) > 100) * np.uint8(255))
    Image.fromarray(gradient(2), "LA").save(tmp_path / "la.png")
    assert np.array_equal(read_pixels(tmp_path / "la.png").values[..., 0], gradient(2)[..., 0])


def test_float_tiff_with_gaps(tmp_path):
    values = gradient(1).astype(np.float32) / 100 - 1
    values[3, 4] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tif")
    image = load(tmp_path / "a.tif")
    assert torch.isfinite(image.as_tensor()).all() and image[0, 3, 4] == 0 and image.max() == 255


def test_dicom_slice_without_an_extension(tmp_path):
    values = gradient(1, np.int16, 1400) - 1000
    write_dicom_slice(tmp_path / "a.dcm", values)
    (tmp_path / "a.dcm").rename(tmp_path / "IM0001")
    pixels = read_pixels(tmp_path / "IM0001")
    assert np.array_equal(pixels.values[..., 0], values)
    assert pixels.spacing == pytest.approx((0.8, 0.5))
    shown, units = load(tmp_path / "IM0001")[0], torch.from_numpy(values)
    # The soft-tissue window of CT: black below -250 HU, white above 350.
    assert (shown[units <= -250] == 0).all() and (shown[units >= 350] == 255).all()
    narrow, inside = load(tmp_path / "IM0001", window=[0, 100])[0], (units > 0) & (units < 100)
    assert (narrow[inside] - 2.55 * units[inside]).abs().max() < 1e-3


def test_dicom_with_white_as_its_lowest_value(tmp_path):
    values = gradient(1, np.int16, 900)
    file = write_dicom_slice(tmp_path / "a.dcm", values)
    file.write_bytes(file.read_bytes().replace(b"MONOCHROME2", b"MONOCHROME1"))
    pixels = read_pixels(tmp_path / "a.dcm")
    assert "MONOCHROME1" in pixels.notes[0]
    assert np.array_equal(pixels.values[..., 0], values.max() - values)


def test_volume_of_one_slice_is_shown_as_on_a_screen(tmp_path):
    values = gradient(1, np.int16, 900)
    # Stored along right, front, feet to head: the picture's columns run to the left and its rows to the back.
    nib.save(nib.Nifti1Image(values.T[::-1, ::-1, None], np.diag([0.5, 0.8, 3, 1.0])), tmp_path / "a.nii.gz")
    pixels = read_pixels(tmp_path / "a.nii.gz")
    assert np.array_equal(pixels.values[..., 0], values)
    assert pixels.spacing == pytest.approx((0.8, 0.5))


def test_normalisation_is_sams(tmp_path):
    image = to_display(torch.full((3, 2, 2), 100, dtype=torch.uint8))
    normed = Normalised("image")({"image": image})["image"]
    assert normed[:, 0, 0].tolist() == pytest.approx([(100 - m) / s for m, s in zip(SAM_MEAN, SAM_STD, strict=True)])


def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path):
    def refused(name: str, reason: str):
        with pytest.raises(ValueError, match=reason):
            load(tmp_path / name)

    refused("missing.png", "no such file")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    refused("broken.png", "cannot be read")
    (tmp_path / "text.jpg").write_text("not an image")
    refused("text.jpg", "cannot be read .*expected PNG")
    pages = [Image.fromarray(gradient(1)) for _ in range(3)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    refused("pages.tif", "3 pages; expected one")
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), tmp_path / "volume.nii.gz")
    refused("volume.nii.gz", "expected a volume of a single slice")
    Image.fromarray(np.full((4, 5), 7, np.uint16)).save(tmp_path / "flat.png")
    refused("flat.png", "flat.png: .*contrast")
    Image.fromarray(gradient(1)).save(tmp_path / "a.png")
    assert json.loads(load(tmp_path / "a.png").meta["notes"]) == []


@pytest.mark.parametrize("colour", [0, 255, 7, (0, 0, 0), (255, 255, 255), (200, 10, 30)])
def test_pictures_of_one_colour_are_refused(tmp_path, colour):
    picture = np.zeros((HEIGHT, WIDTH, *np.shape(colour)), np.uint8) + np.array(colour, np.uint8)
    Image.fromarray(picture).save(tmp_path / "flat.png")
    with pytest.raises(ValueError, match="flat.png: every pixel has the value .*; expected an image with contrast"):
        load(tmp_path / "flat.png")


@pytest.mark.parametrize("power", [-90, 60, 90])
def test_the_unit_of_the_intensities_does_not_count(power):
    values = torch.from_numpy(gradient(1).astype(np.float32))
    torch.testing.assert_close(to_display(values * 2.0**power), to_display(values))


def test_pictures_are_as_large_as_the_limit_allows(tmp_path, monkeypatch):
    """By the header, and by our limit, which can be raised, not by Pillow's, which cannot."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(gradient(3)).save(tmp_path / "a.png")
    write_dicom_slice(tmp_path / "a.dcm", gradient(1).astype(np.int16))
    for name in ("a.png", "a.dcm"):
        assert load(tmp_path / name, max_pixels=HEIGHT * WIDTH).shape == (3, HEIGHT, WIDTH)
        with pytest.raises(ValueError, match=f"its header says {WIDTH} x {HEIGHT} = .*raise --max_pixels"):
            load(tmp_path / name, max_pixels=HEIGHT * WIDTH - 1)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_dicom_slice_without_pixel_spacing_has_none(tmp_path):
    write_dicom_slice(tmp_path / "a.dcm", gradient(1).astype(np.int16))
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    assert read_pixels(tmp_path / "a.dcm").spacing is not None
    dataset.ImagerPixelSpacing = [0.2, 0.3]
    del dataset.PixelSpacing
    dataset.save_as(tmp_path / "detector.dcm")
    pixels = read_pixels(tmp_path / "detector.dcm")
    assert pixels.spacing == (0.2, 0.3) and "at the detector" in pixels.notes[0]
    del dataset.ImagerPixelSpacing
    dataset.save_as(tmp_path / "none.dcm")
    assert read_pixels(tmp_path / "none.dcm").spacing is None


def test_palettes_of_colours_are_colours(tmp_path):
    made = dataset(f"{ROOT}.1", f"{ROOT}.2")
    made.Rows, made.Columns, made.PhotometricInterpretation = HEIGHT, WIDTH, "PALETTE COLOR"
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit = 7
    made.PixelData = gradient(1).tobytes()
    colours = {"Red": np.arange(256), "Green": 255 - np.arange(256), "Blue": np.arange(256) // 2}
    for name, table in colours.items():
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 8])
        setattr(made, f"{name}PaletteColorLookupTableData", table.astype(np.uint8).tobytes())
    save(made, tmp_path / "palette.dcm")
    expected = np.stack([table[gradient(1)] for table in colours.values()], axis=-1)
    np.testing.assert_array_equal(read_pixels(tmp_path / "palette.dcm").values, expected)
