# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Masks that are pictures: the same pixels in every kind of file, and what could mean two things is refused."""

import numpy as np
import pytest
from PIL import Image

from common.label_pictures import binary_map, colour_map, read_label_picture, value_map, whole_numbers

INSIDE = np.zeros((20, 30), bool)
INSIDE[4:12, 5:25] = True
VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0]


def saved(tmp_path, image, name="mask.png", **options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(tmp_path / name, **options)
    return read_label_picture(tmp_path / name)


def palette(numbers, colours, **options):
    image = Image.fromarray(numbers.astype(np.uint8), "L")
    image.putpalette(colours)
    return image


def rgba(colour, alpha):
    return np.dstack([np.broadcast_to(np.uint8(c), INSIDE.shape) for c in colour] + [alpha.astype(np.uint8)])


KINDS = {
    "values": lambda: INSIDE.astype(np.uint8),
    "white": lambda: INSIDE * np.uint8(255),
    "one bit": lambda: Image.fromarray(INSIDE),
    "16 bits": lambda: INSIDE.astype(np.uint16),
    "16 bits, white": lambda: INSIDE * np.uint16(65535),
    "three channels": lambda: np.repeat(INSIDE[..., None] * np.uint8(255), 3, -1),
    "opaque alpha": lambda: np.dstack([INSIDE * np.uint8(255)] * 3 + [np.full(INSIDE.shape, 255, np.uint8)]),
    "grey and opaque alpha": lambda: np.dstack([INSIDE * np.uint8(255), np.full(INSIDE.shape, 255, np.uint8)]),
    "in the alpha channel": lambda: rgba((255, 255, 255), INSIDE * 255),
    "a colour on transparency": lambda: rgba((255, 255, 255), INSIDE * 255),
    "a palette as VOC has it": lambda: palette(INSIDE, VOC),
    "a palette of greys": lambda: palette(INSIDE, [0, 0, 0, 255, 255, 255]),
    "a palette of greys with other numbers": lambda: palette(INSIDE * 2, [0, 0, 0, 9, 9, 9, 1, 1, 1]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [1, 255])
def test_one_label_in_every_kind_of_picture(tmp_path, kind, value):
    values = value_map(saved(tmp_path, KINDS[kind]()), [value])
    assert values.dtype == np.int64 and np.array_equal(values == value, INSIDE) and set(np.unique(values)) == {0, value}


@pytest.mark.parametrize("kind", [k for k in KINDS if "palette" not in k])
def test_a_mask_of_its_own_in_every_kind_of_picture(tmp_path, kind):
    assert np.array_equal(binary_map(saved(tmp_path, KINDS[kind]())), INSIDE)


@pytest.mark.parametrize("name", ["mask.png", "mask.tif", "mask.bmp", "mask.gif"])
def test_several_labels(tmp_path, name):
    numbers = INSIDE.astype(np.uint8) + INSIDE[::-1]
    picture = saved(tmp_path, palette(numbers, VOC) if name.endswith("gif") else numbers, name)
    assert np.array_equal(value_map(picture, [1, 2]), numbers)
    assert np.array_equal(value_map(picture, None), numbers)
    # A value that the labels do not know stays, for the caller to name; white is not the one label of several.
    assert np.array_equal(value_map(picture, [1, 3]), numbers)


def test_colours_of_palettes_and_of_channels(tmp_path):
    numbers = INSIDE.astype(np.uint8) + INSIDE[::-1]
    expected = np.array(VOC, np.uint8).reshape(3, 3)[numbers]
    assert np.array_equal(colour_map(saved(tmp_path, palette(numbers, VOC))), expected)
    assert np.array_equal(colour_map(saved(tmp_path, expected)), expected)
    alpha = np.dstack([expected, (numbers > 0) * np.uint8(255)])
    assert np.array_equal(colour_map(saved(tmp_path, alpha)), expected)
    with pytest.raises(ValueError, match="a mask in colours, but the labels are given by values"):
        value_map(saved(tmp_path, expected), [1, 2])
    with pytest.raises(ValueError, match="values beyond 255"):
        colour_map(saved(tmp_path, numbers.astype(np.uint16)))


def test_a_transparent_entry_of_a_palette_is_background(tmp_path):
    picture = saved(tmp_path, palette(np.where(INSIDE, 1, 2), VOC), transparency=2)
    assert np.array_equal(value_map(picture, [1, 2]), INSIDE)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (lambda: rgba((255, 255, 255), INSIDE * 128), "160 half-transparent pixels"),
        (lambda: rgba((0, 0, 0), INSIDE * 255), "the mask seems to lie in the alpha channel"),
        (
            lambda: np.dstack([INSIDE * np.uint8(255)] * 3 + [np.zeros(INSIDE.shape, np.uint8)]),
            "600 transparent pixels hide 2 colours",
        ),
    ],
)
def test_transparency_that_could_mean_two_things(tmp_path, image, reason):
    with pytest.raises(ValueError, match=f"mask.png: .*{reason}.*; expected"):
        saved(tmp_path, image())


def test_a_palette_that_could_mean_two_things(tmp_path):
    picture = saved(tmp_path, palette(INSIDE + 1, [0, 0, 0, 2, 2, 2, 1, 1, 1]))
    with pytest.raises(ValueError, match="the numbers of its palette and the greys that they show are both"):
        value_map(picture, [1, 2])


def test_traces_of_compression(tmp_path):
    edges = Image.fromarray(INSIDE * np.uint8(255)).rotate(20)
    jpeg = saved(tmp_path, edges, "mask.jpg", quality=75)
    for values in ([255], [1], [1, 2], None):
        with pytest.raises(ValueError, match=r"mask.jpg: the values .* compression that changes pixels \(JPEG\)"):
            value_map(jpeg, values)
    with pytest.raises(ValueError, match=r"\(JPEG\)"):
        binary_map(jpeg)
    # One that came out as it was is taken.
    flat = saved(tmp_path, np.zeros((16, 16), np.uint8), "flat.jpg")
    assert not value_map(flat, [1]).any()


def test_numbers_that_are_nearly_whole(tmp_path):
    near = INSIDE * np.float32(1 - 1e-6)
    assert np.array_equal(value_map(saved(tmp_path, near, "mask.tif"), [1]), INSIDE)
    for wrong in (np.array([0.5]), np.array([np.nan]), np.array([np.inf]), np.array([1j])):
        with pytest.raises(ValueError, match="a.tif: values that are no whole numbers"):
            whole_numbers(wrong, "a.tif")


def test_several_pages_and_deep_colours(tmp_path):
    pages = [Image.fromarray(INSIDE.astype(np.uint8))] * 2
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ValueError, match="pages.tif: 2 pages"):
        read_label_picture(tmp_path / "pages.tif")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match="text.png: cannot be read"):
        read_label_picture(tmp_path / "text.png")
