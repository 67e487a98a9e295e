# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

import math

import pytest

from common.digits import rounded, shown


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (17.09123, 17.0912),
        (0.27812345, 0.2781),
        (0.000278123, 0.000278),
        (1.23456e-9, 1.23e-9),
        (0, 0),
        (-2.5e-7, -2.5e-7),
    ]
    + [(123456.78912, 123456.7891)],
)
def test_three_digits_stay_however_small_a_number(value, expected):
    assert rounded(value) == pytest.approx(expected, rel=1e-12, abs=0)


def test_a_place_is_as_fine_as_the_spacing():
    assert rounded(12.3456789, 2, scale=0.0005) == 12.345679
    assert rounded(12.3456789, 2, scale=1.5) == 12.35
    assert math.isnan(rounded(math.nan))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.75, "1.75"),
        (112.4, "112"),
        (1234.5, "1230"),
        (0.000123456, "0.000123"),
        (2.5e-7, "2.5e-07"),
        (999.6, "1000"),
    ],
)
def test_shown(value, text):
    assert shown(value) == text
