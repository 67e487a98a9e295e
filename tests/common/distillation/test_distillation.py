# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

import logging
import shutil

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from common.distillation import (
    DISTANCES,
    FeatureCache,
    LayerwiseLoss,
    ProgressiveSchedule,
    block_pairs,
    layerwise_distance,
    on_grid,
)


def features(count: int, batch: int = 2, width: int = 6, grid: int = 3, seed: int = 0) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {i: torch.randn(batch, *(grid,) * 3, width, generator=generator) for i in range(1, count + 1)}


def test_the_papers_pairs():
    assert block_pairs(6, 12) == [(2, 1), (4, 2), (6, 3), (8, 4), (10, 5), (12, 6)]
    assert block_pairs(4, 12, 3) == [(3, 1), (6, 2), (9, 3), (12, 4)]
    with pytest.raises(ValueError, match="3 teacher blocks for each of 6 student blocks: the teacher has 12"):
        block_pairs(6, 12, 3)


def test_the_loss_is_the_papers_formula():
    ours, theirs = features(6, seed=1), features(12, seed=2)
    loss = LayerwiseLoss(block_pairs(6, 12))
    for k in (1, 3, 6):
        expected = 0.0
        for image in range(2):
            norms = [float((theirs[2 * i][image] - ours[i][image]).square().sum().sqrt()) for i in range(1, k + 1)]
            expected += sum(norms) / k / 2
        assert float(loss(ours, theirs, k)) == pytest.approx(expected, rel=1e-5)


def test_layers_beyond_k_get_no_gradient():
    ours = {i: x.requires_grad_() for i, x in features(3).items()}
    LayerwiseLoss([(1, 1), (2, 2), (3, 3)])(ours, features(3, seed=5), 2).backward()
    assert ours[1].grad is not None and ours[2].grad is not None and ours[3].grad is None


@pytest.mark.parametrize("name", DISTANCES)
def test_a_distance_is_zero_at_the_teacher_and_one_number_an_image(name):
    ours, theirs = features(1)[1], features(1, seed=3)[1]
    assert DISTANCES[name](ours, theirs).shape == (2,)
    assert (DISTANCES[name](ours, theirs) > 0.1).all()
    assert DISTANCES[name](theirs, theirs).abs().max() < 1e-6


def test_mse_and_cosine_are_what_they_say():
    ours, theirs = torch.tensor([[[3.0, 0.0], [0.0, 2.0]]]), torch.tensor([[[1.0, 0.0], [2.0, 0.0]]])
    assert float(DISTANCES["mse"](ours, theirs)) == pytest.approx((4 + 0 + 4 + 4) / 4)
    assert float(DISTANCES["cosine"](ours, theirs)) == pytest.approx(0.5)
    assert float(layerwise_distance([ours], [theirs], DISTANCES["l2"])) == pytest.approx(12**0.5)


def test_widths_that_differ_are_projected_and_the_projection_learns():
    ours, theirs = features(1, width=4), features(1, width=6, seed=1)
    with pytest.raises(ValueError, match=r"expected the same: give widths"):
        LayerwiseLoss([(1, 1)])(ours, theirs)
    loss = LayerwiseLoss([(1, 1)], widths=[(6, 4)])
    loss(ours, theirs).backward()
    assert [tuple(p.shape) for p in loss.parameters()] == [(6, 4), (6,)]
    assert all(p.grad.abs().sum() > 0 for p in loss.parameters())


def test_a_finer_student_is_averaged_over_the_teachers_cells():
    fine = features(1, grid=4)[1]
    coarse = on_grid(fine, (2, 2, 2))
    torch.testing.assert_close(coarse[0, 0, 0, 0], fine[0, :2, :2, :2].mean(dim=(0, 1, 2)))
    assert on_grid(fine, (8, 8, 8)).shape == (2, 8, 8, 8, 6)
    assert on_grid(fine, (4, 4, 4)) is fine


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"pairs": []}, "expected .*teacher layer, student layer"),
        ({"pairs": [[1, 2, 3]]}, "expected .*teacher layer, student layer"),
        ({"pairs": [[1, 1]], "distance": "l1"}, "distance 'l1': expected one of l2, mse, cosine"),
        ({"pairs": [[1, 1], [2, 2], [3, 3]], "widths": [[1, 2], [1, 2]]}, "2 widths for 3 pairs"),
    ],
)
def test_a_loss_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        LayerwiseLoss(**arguments)


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"pair \[9, 1\]: the teacher has layers \[1, 2\]"):
        LayerwiseLoss([[9, 1]])(features(1), features(2))


@pytest.mark.parametrize("unit, expected", [("steps", [1, 1, 2, 2, 3, 3, 3, 3]), ("epochs", [1, 1, 1, 1, 1, 1, 1, 1])])
def test_k_grows_from_one_to_all(unit, expected):
    schedule = ProgressiveSchedule(pairs=3, every=2, unit=unit)
    seen = []
    engine = Engine(lambda *_: seen.append(schedule.k))
    schedule.attach(engine)
    engine.run(range(4), max_epochs=2)
    assert seen == expected
    assert schedule.done == (8 if unit == "steps" else 2)


def test_a_schedule_goes_on_where_it_was():
    first, second = ProgressiveSchedule(5, 3), ProgressiveSchedule(5, 3)
    for _ in range(7):
        first.advance()
    second.load_state_dict(first.state_dict())
    assert second.k == first.k == 3
    with pytest.raises(ValueError, match="the schedule's state counts steps, this one epochs"):
        ProgressiveSchedule(5, 3, "epochs").load_state_dict(first.state_dict())


def test_all_layers_at_once():
    assert ProgressiveSchedule(6, 10, start=6).k == 6


@pytest.mark.parametrize(
    "arguments", [{"pairs": 0, "every": 1}, {"pairs": 3, "every": 0}, {"pairs": 3, "every": 1, "start": 4}]
)
def test_a_schedule_that_cannot_be(arguments):
    with pytest.raises(ValueError, match="expected every >= 1 and 1 <= start <= pairs"):
        ProgressiveSchedule(**arguments)


class Teacher(nn.Module):
    """Two layers, and a count of the images that it looked at."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv3d(1, 4, 2, 2)
        self.looked = 0

    def forward(self, image: torch.Tensor) -> dict[int | str, torch.Tensor]:
        self.looked += len(image)
        first = self.conv(image).movedim(1, -1)
        return {1: first, "embedding": first.sin()}


def test_cached_features_are_the_teachers_and_computed_once(tmp_path):
    teacher, images = Teacher(), torch.randn(3, 1, 4, 4, 4)
    cache = FeatureCache(tmp_path / "features", teacher, (1, "embedding"))
    with torch.no_grad():
        first = cache.get(images, teacher)
        again = FeatureCache(tmp_path / "features", teacher, (1, "embedding")).get(images.flip(0), teacher)
    assert teacher.looked == 3 and cache.misses == 3
    for name, value in Teacher()(images).items():
        torch.testing.assert_close(first[name], value.detach(), atol=2e-3, rtol=2e-3)
        assert torch.equal(first[name], again[name].flip(0))
    assert not list(tmp_path.rglob("*.part"))


def test_only_what_is_missing_is_computed(tmp_path):
    teacher, images = Teacher(), torch.randn(3, 1, 4, 4, 4)
    cache = FeatureCache(tmp_path, teacher, (1,))
    with torch.no_grad():
        cache.get(images[:2], teacher)
        cache.get(images, teacher)
    assert teacher.looked == 3
    assert (cache.hits, cache.misses) == (2, 3)


@pytest.mark.parametrize("change", ["weights", "image", "layers"])
def test_other_weights_images_or_layers_do_not_meet_old_features(tmp_path, change):
    teacher, images = Teacher(), torch.randn(1, 1, 4, 4, 4)
    with torch.no_grad():
        FeatureCache(tmp_path, teacher, (1,)).get(images, teacher)
        if change == "weights":
            teacher.conv.bias += 1e-3
        elif change == "image":
            images[0, 0, 0, 0, 0] += 1e-3
        FeatureCache(tmp_path, teacher, (1, "embedding") if change == "layers" else (1,)).get(images, teacher)
    assert teacher.looked == 2


@pytest.mark.parametrize("damage", ["truncated", "changed", "swapped"])
def test_damaged_features_are_computed_again(tmp_path, damage, caplog):
    teacher, images = Teacher(), torch.randn(2, 1, 4, 4, 4)
    with torch.no_grad():
        expected = FeatureCache(tmp_path, teacher, (1,)).get(images, teacher)
        first, second = sorted(tmp_path.glob("*.safetensors"))
        content = bytearray(first.read_bytes())
        if damage == "truncated":
            first.write_bytes(content[:-7])
        elif damage == "changed":
            content[-3] ^= 1
            first.write_bytes(content)
        else:
            shutil.copyfile(second, first)
        found = FeatureCache(tmp_path, teacher, (1,)).get(images, teacher)
    assert "is damaged: its features are computed again" in caplog.text
    assert teacher.looked == 3
    assert torch.equal(found[1], expected[1])


def test_the_size_is_said_in_advance_and_is_right(tmp_path, caplog):
    teacher, images = Teacher(), torch.randn(4, 1, 8, 8, 8)
    cache = FeatureCache(tmp_path, teacher, (1, "embedding"))
    with torch.no_grad(), caplog.at_level(logging.INFO):
        size = cache.announce(4, teacher(images[:1]))
        cache.get(images, teacher)
    assert "teacher features of 4 images: 0.000 GB" in caplog.text
    stored = sum(f.stat().st_size for f in tmp_path.glob("*.safetensors"))
    assert size == 4 * 2 * (64 * 4 * 2)
    assert size < stored < size + 4 * 400
    with pytest.raises(ValueError, match="GB are free; give another folder, fewer cubes, or no cache"):
        cache.announce(10**12, teacher(images[:1]))
