# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""train_base.json: objects with clicks and boxes, corrections, and a base that train.json starts from."""

import numpy as np
import pytest
import torch
from monai.losses import DiceFocalLoss
from training_runs import SETTINGS, SSAM, TINY, make_folder, make_list, run, tiny_base, weights
from workflows import run_until_killed, started

from bundles.ssam_2d.scripts.training.objects import FORMS, SampleObjectsd
from bundles.ssam_2d.scripts.training.simulated import Answers, PromptInferer, PromptLoss


def squares():
    mask = torch.zeros(1, 32, 32)
    mask[0, 2:12, 4:20] = 7
    mask[0, 20:30, 20:30] = 3
    mask[0, 31, 31] = 9
    return mask


def test_objects_have_their_prompts():
    sample = SampleObjectsd("label", count=3, points=4)
    sample.set_random_state(1)
    for _ in range(20):
        found = sample({"label": squares()})
        assert found["label"].shape == (3, 32, 32) and not found["label"][2].any()
        assert {int(mask.sum()) for mask in found["label"][:2]} == {160, 100}
        for mask, points, signs, box in zip(
            *(found[k] for k in ("label", "points", "point_labels", "boxes")), strict=True
        ):
            for (x, y), sign in zip(points.long(), signs, strict=True):
                assert sign == -1 or mask[y, x] == sign
            if mask.any():
                assert signs[0] == 1
                rows, columns = (mask.any(axis).nonzero() for axis in (1, 0))
                expected = torch.tensor([columns[0], rows[0], columns[-1], rows[-1]])
                assert (box - expected).abs().max() <= 0.1 * 16
        assert 0 <= int(found["form"]) < len(FORMS)


def test_without_chance_the_largest_come_first():
    found = SampleObjectsd("label", count=2, random=False)({"label": squares()})
    assert [int(mask.sum()) for mask in found["label"]] == [160, 100]
    assert found["point_labels"].tolist() == [[1, -1, -1]] * 2 and found["form"] == 0
    assert found["boxes"].tolist() == [[4, 2, 19, 11], [20, 20, 29, 29]]


def test_without_chance_the_form_is_given():
    found = SampleObjectsd("label", count=2, random=False, form="box")({"label": squares()})
    assert list(FORMS)[int(found["form"])] == "box"
    with pytest.raises(ValueError, match="prompt 'circle': expected points, box, both"):
        SampleObjectsd("label", form="circle")


class Recorder(torch.nn.Module):
    """Answers nothing anywhere, and keeps what it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def encode(self, image):
        return torch.zeros(len(image), 4, 4, 4)

    def decode(self, embedding, points=None, point_labels=None, boxes=None, masks=None, paired=False):
        self.asked.append({"points": points, "point_labels": point_labels, "boxes": boxes, "masks": masks})
        assert paired and len(embedding) == len(points if points is not None else boxes)
        return torch.full((len(embedding), 1, 16, 16), -12.0), torch.zeros(len(embedding), 1)


@pytest.mark.parametrize("form", range(len(FORMS)))
def test_each_round_adds_a_click_in_what_is_wrong(form):
    item = SampleObjectsd("label", count=2, random=False)({"label": squares()})
    batch = {key: torch.stack([torch.as_tensor(item[key])] * 2) for key in item}
    batch["form"] = torch.tensor([form, 0])
    network = Recorder()
    answers = PromptInferer(rounds=3)(torch.zeros(2, 3, 32, 32), network, batch)
    assert answers.logits.shape == (3, 2, 2, 16, 16) and answers.iou.shape == (3, 2, 2)
    first, second, third = network.asked
    name = list(FORMS)[form]
    assert (first["points"] is None) == (name == "box") and (first["boxes"] is None) == (name == "points")
    clicks = 0 if first["points"] is None else first["points"].shape[1]
    assert [asked["points"].shape[1] for asked in (second, third)] == [clicks + 1, clicks + 2]
    # Everything was missed, so that each further click lies in the object.
    truth = batch["label"].flatten(0, 1)
    for mask, (x, y) in zip(truth, third["points"][:, -1].round().long(), strict=True):
        assert mask[y, x]
    assert (third["point_labels"][:, -1] == 1).all()
    assert second["masks"].shape == (4, 1, 16, 16) and second["masks"].min() == -10


def test_the_loss_leaves_out_objects_that_are_not_there():
    loss = PromptLoss(DiceFocalLoss(sigmoid=True), iou_weight=1.0)
    target = torch.zeros(1, 2, 32, 32, dtype=torch.uint8)
    target[0, 0, 8:24, 8:24] = 1
    logits = torch.full((1, 1, 2, 16, 16), -12.0)
    logits[0, 0, 0, 4:12, 4:12] = 12
    right = loss(Answers(logits, torch.tensor([[[1.0, 0.5]]])), target)
    assert right.item() < 0.01
    logits[0, 0, 1] = 12
    assert loss(Answers(logits, torch.tensor([[[1.0, 0.5]]])), target) == right
    assert loss(Answers(logits, torch.zeros(1, 1, 2)), target) > right + 0.5
    nothing = Answers(logits.requires_grad_(), torch.zeros(1, 1, 2))
    assert loss(nothing, torch.zeros_like(target)).item() == 0


def test_a_base_is_trained_gone_on_with_and_fine_tuned(tmp_path, ssam_path):
    folder = make_folder(tmp_path / "data")
    settings = {"data_list_file_path": make_list(folder), "batch_size": 2, "objects": 2}
    run("train.json", "train_base.json", output_dir=tmp_path / "whole", max_epochs=2, **settings)
    base = weights(tmp_path / "whole" / "base.pt")
    assert all(name.startswith(("image_encoder.", "prompt_encoder.", "mask_decoder.")) for name in base)
    assert (tmp_path / "whole" / "state.pt").is_file()
    again = {"output_dir": tmp_path / "killed", "max_epochs": 2, "save_every": 1, **settings}
    run_until_killed(3, run, "train.json", "train_base.json", **again)
    run("train.json", "train_base.json", **again, resume=True)
    assert all(torch.equal(tensor, weights(tmp_path / "killed" / "base.pt")[name]) for name, tensor in base.items())
    tuned = {"dataset_dir": folder, "base_path": tmp_path / "whole" / "base.pt", "output_dir": tmp_path / "run"}
    run("train.json", **tuned, max_epochs=1, batch_size=2)
    model = weights(tmp_path / "run" / "model.pt")
    assert all(torch.equal(model[name], base[name]) for name in base if name.startswith("prompt_encoder."))
    assert np.isfinite([float(tensor.double().sum()) for tensor in model.values()]).all()


@pytest.mark.parametrize("prompt", ["points", "box"])
def test_a_base_is_checked_without_training(tmp_path, ssam_path, prompt):
    folder = make_folder(tmp_path / "data")
    base = tiny_base(tmp_path / "base.pt")
    overrides = TINY | SETTINGS | {"data_list_file_path": str(make_list(folder)), "output_dir": str(tmp_path / "run")}
    configs = ("train.json", "train_base.json")
    workflow = started(SSAM, configs, run_id="check", base_path=base, validation_prompt=prompt, **overrides)
    workflow.run()
    metrics = workflow.parser.get_parsed_content("validate#evaluator").state.metrics
    assert set(metrics) == {"dice after 1 click", "dice after 3 clicks"}
    assert all(0 <= value <= 1 for value in metrics.values())
    assert not (tmp_path / "run" / "base.pt").exists()
