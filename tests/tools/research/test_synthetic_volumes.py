# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

import numpy as np
import pytest

from tools.research.synthetic_volumes import main, paint, smooth_field, synthetic_volume, thick_slices

SHAPE = (40, 32, 36)


@pytest.mark.parametrize("seed", range(12))
def test_every_volume_is_finite_and_every_target_is_there(seed):
    volume = synthetic_volume(np.random.default_rng(seed), SHAPE)
    assert volume.image.shape == volume.labels.shape == SHAPE
    assert volume.image.dtype == np.float32
    assert np.isfinite(volume.image).all()
    assert volume.image.std() > 0
    assert volume.targets
    for target in volume.targets:
        assert 0 not in target
        assert np.isin(volume.labels, target).sum() >= 8


def test_the_generator_decides_everything():
    first, again, other = (synthetic_volume(np.random.default_rng(s), SHAPE) for s in (3, 3, 4))
    assert np.array_equal(first.image, again.image)
    assert first.targets == again.targets
    assert not np.array_equal(first.image, other.image)


def test_both_looks_occur():
    lowest = [float(synthetic_volume(np.random.default_rng(s), (24, 24, 24)).image.min()) for s in range(20)]
    assert min(lowest) < -800
    assert max(lowest) >= 0


def test_painting_tells_regions_apart():
    labels = np.zeros((24, 24, 24), np.uint8)
    labels[:, :, 12:] = 1
    apart = [np.ptp([paint(labels, np.random.default_rng(s))[:, :, k].mean() for k in (4, 20)]) for s in range(8)]
    assert np.median(apart) > 50


def test_smooth_fields_are_smooth_and_scaled():
    field = smooth_field(np.random.default_rng(0), (40, 30, 20), 4)
    assert field.shape == (40, 30, 20)
    assert 0.8 < field.std() < 1.2
    assert np.abs(np.diff(field, axis=0)).max() < 1


def test_thick_slices_keep_shape_and_mean():
    image = np.random.default_rng(0).random((12, 13, 14), dtype=np.float32)
    thick = thick_slices(image, 1, 4)
    assert thick.shape == image.shape
    assert abs(float(thick.mean() - image.mean())) < 0.05
    assert np.abs(np.diff(thick, axis=1)).mean() < 0.5 * np.abs(np.diff(image, axis=1)).mean()


def test_the_preview_command_writes_a_sheet(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["x", "--output", str(tmp_path), "--count", "2", "--size", "32"])
    main()
    assert (tmp_path / "synthetic_volumes.png").stat().st_size > 1000
