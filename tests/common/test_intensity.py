# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

import pytest
import torch

from common.intensity import CT_WINDOW, intensity_bounds, normalise, normalise_above_zero


def noise(shape=(20, 21, 22), scale=100.0, offset=0.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * scale + offset


def test_ct_is_known_by_its_air():
    volume = noise(scale=30)
    assert intensity_bounds(volume) != CT_WINDOW
    volume[0] = -1000
    assert intensity_bounds(volume) == CT_WINDOW
    low, high = intensity_bounds(volume, "percentile")
    assert low == -1000 and 50 < high < 120
    assert intensity_bounds(volume, (-5, 80)) == (-5.0, 80.0)


def test_percentiles_ignore_a_few_extremes():
    volume = noise(scale=1, offset=500)
    volume[0, 0, :5] = 1e6
    low, high = intensity_bounds(volume)
    assert 496 < low < 498.5 and 501.5 < high < 504


def test_a_rare_object_on_an_even_background_keeps_its_contrast():
    volume = torch.full((30, 30, 30), 7.0)
    volume[10:12, 10:12, 10:12] = 9
    assert intensity_bounds(volume) == (7.0, 9.0)


def test_a_large_volume_is_sampled_evenly(monkeypatch):
    monkeypatch.setattr("common.intensity.SAMPLES", 1000)
    volume = torch.linspace(0, 100, 50 * 50 * 50).view(50, 50, 50)
    low, high = intensity_bounds(volume)
    assert low == pytest.approx(0.5, abs=0.3) and high == pytest.approx(99.5, abs=0.3)


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8, torch.float64])
def test_any_type(dtype):
    low, high = intensity_bounds(torch.arange(100).to(dtype))
    assert low == pytest.approx(0.495) and high == pytest.approx(98.505)


INFINITE = float("inf")


@pytest.mark.parametrize(
    "window",
    [
        "bone",
        [1, 1],
        [5, 2],
        [1],
        [1, 2, 3],
        [float("nan"), 2],
        [-INFINITE, INFINITE],
        [0, INFINITE],
        ["a", 2],
        [True, 2],
    ],
)
def test_unknown_windows(window):
    with pytest.raises(ValueError, match=r"window.*expected"):
        intensity_bounds(noise(), window)


def test_constant_volume():
    with pytest.raises(ValueError, match="every voxel has the value 3"):
        intensity_bounds(torch.full((4, 4, 4), 3.0))


def test_normalise():
    cube = noise((1, 8, 8, 8), 50, 20)
    inside = torch.zeros(8, 8, 8, dtype=torch.bool)
    inside[:, :5] = True
    out = normalise(cube, inside, (-60.0, 90.0))
    assert out.dtype == torch.float32 and not out[:, ~inside].any()
    kept = out[:, inside]
    assert kept.mean().item() == pytest.approx(0, abs=1e-5)
    assert kept.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert kept.min() == kept[cube[:, inside] <= -60].max(), "what lies below the window is clipped to one value"
    # Brightness and contrast of the scanner do not matter, nor what lies outside.
    changed = torch.where(inside, 3 * cube + 40, 1e4)
    torch.testing.assert_close(normalise(changed, inside, (-140.0, 310.0)), out, atol=1e-4, rtol=0)


@pytest.mark.parametrize("function", [normalise, normalise_above_zero])
@pytest.mark.parametrize("value", [0.0, 5.0])
def test_cubes_without_contrast_or_content_stay_finite(function, value):
    cube = torch.full((1, 4, 4, 4), value)
    for inside in (torch.ones(4, 4, 4, dtype=torch.bool), torch.zeros(4, 4, 4, dtype=torch.bool)):
        out = function(cube, inside, (0.0, 10.0))
        assert torch.isfinite(out).all() and out.abs().max() < 1e-3


def test_normalise_above_zero():
    cube = noise((1, 8, 8, 8), 50, 20)
    inside = torch.ones(8, 8, 8, dtype=torch.bool)
    inside[0] = False
    out = normalise_above_zero(cube, inside, (0.0, 1.0))
    assert not out[:, 0].any()
    counted = out[:, 1:][cube[:, 1:] > 0]
    assert counted.mean().item() == pytest.approx(0, abs=1e-5) and counted.std().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("window", [[1e4, 2e4], [-9000, -5000], "ct"])
def test_a_window_on_one_side_of_all_intensities_is_refused(window):
    volume = noise(offset=2000 if window == "ct" else 0)
    with pytest.raises(ValueError, match="lie on one side of it; expected --window .*percentile"):
        intensity_bounds(volume, window)


def test_a_few_intensities_inside_the_window_are_contrast(monkeypatch):
    monkeypatch.setattr("common.intensity.SAMPLES", 100)
    volume = torch.zeros(30, 30, 30)
    volume[3, 3, 3] = 15000
    assert intensity_bounds(volume, [1e4, 2e4]) == (1e4, 2e4)


@pytest.mark.parametrize("scale", [1e31, 1e-33])
def test_numbers_that_32_bits_do_not_compute_with_are_refused(scale):
    with pytest.raises(ValueError, match="intensities from .*expected numbers.*scale them"):
        intensity_bounds(noise() * scale)


def test_volumes_far_below_any_air_are_no_ct():
    plain = intensity_bounds(noise(), "percentile")
    assert intensity_bounds(noise() * 1e15) == pytest.approx(tuple(1e15 * b for b in plain))


@pytest.mark.parametrize("function", [normalise, normalise_above_zero])
@pytest.mark.parametrize("power", [-90, -60, -1, 40, 60, 90])
def test_the_unit_of_the_intensities_does_not_count(function, power):
    """Not even for the last digit, where it is a power of two; squares neither overflow nor vanish."""
    cube, inside = noise((1, 8, 8, 8), 50, 20), torch.ones(8, 8, 8, dtype=torch.bool)
    plain = function(cube, inside, (-60.0, 90.0))
    scaled = function(cube * 2.0**power, inside, (-60.0 * 2.0**power, 90.0 * 2.0**power))
    assert torch.equal(scaled, plain) and plain.std() > 0.5
