# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What the student is shown, what it learns, and what stays as it is."""

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from small_networks import small_student, small_teacher

from common.distillation import ProgressiveSchedule


def build(definition):
    torch.manual_seed(1)
    return ConfigParser({"network": definition}).get_parsed_content("network")


@pytest.fixture
def parts(fastsam3d_path):
    """Student, teacher, and the module with what is distilled in it."""
    from scripts.training import distillation

    return build(small_student()), build(small_teacher()), distillation


def cubes(batch=2):
    label = torch.zeros(batch, 1, 1, 16, 16, 16, dtype=torch.uint8)
    label[..., 4:12, 4:12, 4:12] = 1
    return torch.randn(batch, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0)), label, torch.arange(batch)


def features(parts, pairs, start=1, **options):
    from scripts.common.distillation import LayerwiseLoss

    student, teacher, module = parts
    schedule = ProgressiveSchedule(len(pairs), 1, start=start)
    return module.FeatureDistillation(student, teacher, LayerwiseLoss(pairs), schedule, **options), schedule


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_the_layers_are_the_blocks_and_what_the_decoder_is_given(parts, kind):
    network = parts[0 if kind == "student" else 1]
    image = cubes()[0]
    layers = parts[2].encoder_layers(network.image_encoder, image)
    depth = 2 if kind == "student" else 4
    assert list(layers) == [*range(1, depth + 1), "embedding"]
    assert all(x.shape == (2, 4, 4, 4, 12) for x in layers.values())
    torch.testing.assert_close(layers["embedding"].movedim(-1, 1), network.encode(image).features)


def test_early_pairs_teach_early_blocks_alone(parts):
    model, schedule = features(parts, [[2, 1], [4, 2], ["embedding", "embedding"]])
    model(*cubes())["loss"].backward()
    blocks = model.student.blocks
    assert blocks[0].mlp.lin1.weight.grad.abs().sum() > 0
    assert blocks[1].mlp.lin1.weight.grad is None
    assert next(model.student.neck.parameters()).grad is None
    schedule.advance()
    model(*cubes())["loss"].backward()
    assert blocks[1].mlp.lin1.weight.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())


def test_a_student_that_is_its_teacher_has_nothing_to_learn(parts):
    _, teacher, module = parts
    same = build(small_teacher())
    same.load_state_dict(teacher.state_dict())
    model, _ = features((same, teacher, module), [[2, 2], [4, 4], ["embedding", "embedding"]], start=3)
    assert float(model(*cubes())["loss"].detach()) < 1e-4
    torch.testing.assert_close(model.eval()(*cubes())["likeness"], torch.ones(2))


@pytest.mark.parametrize("cached", [False, True])
def test_the_student_comes_to_resemble_its_teacher(parts, tmp_path, cached):
    options = {"cache_dir": str(tmp_path), "images": 2} if cached else {}
    model, _ = features(parts, [[2, 1], [4, 2], ["embedding", "embedding"]], start=3, **options)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    before = model.eval()(*cubes())["likeness"].mean()
    model.train()
    for _ in range(60):
        optimizer.zero_grad()
        model(*cubes())["loss"].backward()
        optimizer.step()
    assert model.eval()(*cubes())["likeness"].mean() > before + 0.3
    assert len(list(tmp_path.glob("*.safetensors"))) == (2 if cached else 0)


def test_logits_teach_the_encoder_through_the_teachers_decoder(parts):
    from scripts.training.clicking import Clicking

    student, teacher, module = parts
    model = module.LogitDistillation(student, teacher, Clicking(steps=2, promptless=0))
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(25):
        np.random.seed(0)
        optimizer.zero_grad()
        loss = model(*cubes())["loss"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert all(p.grad is None for p in student.mask_decoder.parameters())


def test_a_network_takes_over_what_fits_of_its_teachers_decoder(parts, caplog):
    student, teacher, module = parts
    definition = small_student()
    definition["mask_decoder"] = {**definition["mask_decoder"], "iou_head_hidden_dim": 10}
    network = build(definition)
    own = {k: v.clone() for k, v in network.mask_decoder.state_dict().items()}
    with caplog.at_level("INFO"):
        module.StartFromTeacher(network, teacher)(None)
    theirs = teacher.mask_decoder.state_dict()
    for name, value in network.mask_decoder.state_dict().items():
        expected = theirs[name] if theirs[name].shape == value.shape else own[name]
        assert torch.equal(value, expected), name
    assert "mask_decoder: 115 of 120" in caplog.text
    assert "prompt_encoder: 17 of 17 tensors are the teacher's" in caplog.text


def test_a_teacher_without_weights_is_named(parts, tmp_path):
    with pytest.raises(ValueError, match="no teacher_path was given: expected the model.pt"):
        parts[2].read_teacher(parts[1], None)
    with pytest.raises(ValueError, match="nowhere.pt: no such file"):
        parts[2].read_teacher(parts[1], str(tmp_path / "nowhere.pt"))


def test_a_schedule_for_other_pairs_is_refused(parts):
    from scripts.common.distillation import LayerwiseLoss

    with pytest.raises(ValueError, match="a schedule for 3 pairs, a loss over 1"):
        parts[2].FeatureDistillation(parts[0], parts[1], LayerwiseLoss([[2, 1]]), ProgressiveSchedule(3, 1))
