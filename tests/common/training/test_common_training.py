# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Trainings that are killed and go on: same weights, nothing lost, nothing mixed up."""

import io
import multiprocessing
import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.transforms import Compose, RandGaussianNoised, Randomizable
from torch import nn

from common.training import BestWeights, ClipGradients, EpochSeeds, Freeze, RunState, SeededDataset
from common.training.run_state import differences

EPOCHS = 3


class OwnChance:
    """A transform that draws from the global generators, as careless ones do."""

    def __call__(self, data):
        shift = random.random() + np.random.rand() + float(torch.rand(()))
        return {**data, "image": data["image"] + 0.1 * shift}


def make_trainer(folder: Path, resume: bool, every: int = 0, workers: int = 0, settings=None, steps: int = 1):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    items = [{"image": torch.full((3,), float(i)), "label": torch.tensor([i % 2.0])} for i in range(11)]
    transform = Compose([RandGaussianNoised("image", prob=0.7), OwnChance()])
    state = RunState(
        folder, {"network": network, "optimizer": optimizer, "schedule": schedule}, settings, resume, every
    )
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=EPOCHS,
        train_data_loader=DataLoader(Dataset(items, transform), batch_size=2, shuffle=True, num_workers=workers),
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        train_handlers=[EpochSeeds(4), Scheduled(schedule), state],
        accumulation_steps=steps,
    )
    return trainer, network


class Scheduled:
    """Steps a schedule after each epoch."""

    def __init__(self, schedule) -> None:
        self.schedule = schedule

    def attach(self, engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: self.schedule.step())


def killed_training(folder: Path, moment: str, number: int, **options) -> None:
    """Train in this process until ``moment`` came ``number`` times, then die as by ``kill -9``."""
    trainer, _ = make_trainer(folder, (folder / "state.pt").exists(), **options)
    die = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
    count = 0

    def perhaps_die(*_) -> None:
        nonlocal count
        count += 1
        if count == number:
            die()

    if moment == "writing":
        whole = torch.save

        def half(content, path) -> None:
            nonlocal count
            count += 1
            if count < number:
                whole(content, path)
                return
            buffer = io.BytesIO()
            whole(content, buffer)
            Path(path).write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
            die()

        torch.save = half
    else:
        trainer.add_event_handler(Events[moment.upper()], perhaps_die)
    trainer.run()


def in_killed_process(*arguments, **options) -> None:
    process = multiprocessing.get_context("fork").Process(target=killed_training, args=arguments, kwargs=options)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def finish(folder: Path, **options) -> dict[str, torch.Tensor]:
    trainer, network = make_trainer(folder, **options)
    trainer.run()
    assert trainer.state.iteration == EPOCHS * 6
    return network.state_dict()


def assert_equal(ours: dict, theirs: dict) -> None:
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "moment, number",
    [
        ("iteration_started", 3),
        ("iteration_completed", 8),
        ("iteration_completed", 12),
        ("epoch_completed", 1),
        ("writing", 1),
        ("writing", 4),
        ("get_batch_completed", 17),
    ],
)
def test_a_killed_training_ends_in_the_same_weights(tmp_path, moment, number, workers):
    whole = finish(tmp_path / "whole", resume=False, every=2, workers=workers)
    in_killed_process(tmp_path / "killed", moment, number, every=2, workers=workers)
    assert_equal(finish(tmp_path / "killed", resume=True, every=2, workers=workers), whole)


def test_a_training_killed_again_and_again_gets_there(tmp_path):
    whole = finish(tmp_path / "whole", resume=False, every=2)
    for moment, number in (("writing", 1), ("iteration_completed", 5), ("writing", 2), ("epoch_completed", 2)):
        in_killed_process(tmp_path / "killed", moment, number, every=2)
    assert_equal(finish(tmp_path / "killed", resume=True, every=2), whole)


def test_what_is_drawn_does_not_hang_on_when_states_are_written(tmp_path):
    assert_equal(finish(tmp_path / "a", resume=False), finish(tmp_path / "b", resume=False, every=1))


def test_another_seed_gives_other_weights(tmp_path):
    trainer, network = make_trainer(tmp_path / "a", False)
    other, other_network = make_trainer(tmp_path / "b", False)
    other._event_handlers.clear()
    EpochSeeds(5).attach(other)
    trainer.run(), other.run()
    assert not torch.equal(network[0].weight, other_network[0].weight)


def test_gradients_are_not_lost_between_two_steps(tmp_path):
    whole = finish(tmp_path / "whole", resume=False, every=2, steps=2)
    in_killed_process(tmp_path / "killed", "iteration_completed", 9, every=2, steps=2)
    assert_equal(finish(tmp_path / "killed", resume=True, every=2, steps=2), whole)
    with pytest.raises(ValueError, match="every is 3: expected a multiple of accumulation_steps, 2"):
        finish(tmp_path / "other", resume=False, every=3, steps=2)


def test_an_earlier_run_is_never_overwritten(tmp_path):
    finish(tmp_path, resume=False, settings={"rate": 1.0})
    with pytest.raises(ValueError, match="give --resume true .* or another output_dir"):
        make_trainer(tmp_path, False, settings={"rate": 1.0})


def test_another_configuration_is_named(tmp_path):
    finish(tmp_path, resume=False, settings={"rate": 1.0, "network": {"width": 8, "heads": [1, 2]}})
    with pytest.raises(ValueError, match=r"network#width: was 8, is 16. Give the settings"):
        make_trainer(tmp_path, True, settings={"rate": 1.0, "network": {"width": 16, "heads": (1, 2)}})


def test_a_finished_run_is_not_trained_again(tmp_path):
    whole = finish(tmp_path, resume=False)
    assert_equal(finish(tmp_path, resume=True), whole)


def test_resume_without_a_state_starts_anew_and_says_so(tmp_path, caplog):
    finish(tmp_path, resume=True)
    assert "nothing to resume, the training starts anew" in caplog.text


def test_a_file_that_is_no_state_is_named(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="cannot be read as the state of a training"):
        make_trainer(tmp_path, True)


def test_other_data_is_named(tmp_path):
    finish(tmp_path, resume=False)
    trainer, _ = make_trainer(tmp_path, True)
    trainer.state.epoch_length = 5
    with pytest.raises(ValueError, match="6 iterations in an epoch, this one has 5"):
        trainer.run()


def test_differences_between_settings():
    assert differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}, "d": 4}) == [
        "b#c: was 2, is 3",
        "d: was null, is 4",
    ]


def test_worse_weights_do_not_replace_better_ones_after_a_resume(tmp_path):
    network = nn.Linear(1, 1)
    best = BestWeights(tmp_path / "model.pt", network)
    engine = Engine(lambda *_: None)
    engine.state.key_metric_name, engine.state.metrics, engine.state.rank = "dice", {"dice": 0.5}, 0
    best(engine)
    written = torch.load(tmp_path / "model.pt", weights_only=True)
    resumed = BestWeights(tmp_path / "model.pt", network)
    resumed.load_state_dict(best.state_dict())
    nn.init.constant_(network.weight, 7)
    engine.state.metrics["dice"] = 0.4
    resumed(engine)
    assert_equal(torch.load(tmp_path / "model.pt", weights_only=True), written)
    engine.state.metrics["dice"] = 0.6
    resumed(engine)
    assert torch.load(tmp_path / "model.pt", weights_only=True)["weight"] == 7


def stopping_trainer(folder: Path, resume: bool) -> Engine:
    """Scores 0.5, 0.6, and then never higher."""
    trainer, network = make_trainer(folder / "not used", False)
    trainer.state.max_epochs = 9
    best = BestWeights(folder / "model.pt", network, patience=2)
    scored = Engine(lambda *_: None)
    scored.state.key_metric_name, scored.state.rank = "dice", 0

    def evaluate(engine: Engine) -> None:
        scored.state.metrics = {"dice": [0.5, 0.6, 0.4, 0.6, 0.3, 0.2, 0.1, 0.1, 0.1][engine.state.epoch - 1]}
        best(scored)

    trainer._event_handlers.clear()
    trainer.add_event_handler(Events.EPOCH_COMPLETED, evaluate)
    best.attach(trainer)
    RunState(folder, {"network": network, "best": best}, None, resume).attach(trainer)
    return trainer


def test_a_training_without_progress_ends_and_stays_ended(tmp_path):
    trainer = stopping_trainer(tmp_path, False)
    trainer.run()
    assert trainer.state.iteration == 4 * 6
    resumed = stopping_trainer(tmp_path, True)
    resumed.run()
    assert resumed.state.iteration == 4 * 6
    with pytest.raises(ValueError, match="patience 0: expected a number of evaluations, or null"):
        BestWeights(tmp_path / "model.pt", nn.Linear(1, 1), 0)


def test_gradients_are_clipped_and_infinite_ones_left_out():
    network = nn.Linear(2, 1, bias=False)
    clip = ClipGradients(network, 1.0)
    engine = Engine(lambda *_: None)
    engine.state.iteration, engine.state.epoch_length = 2, 3
    engine.accumulation_steps, engine.scaler = 2, None
    engine.optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    network.weight.grad = torch.tensor([[30.0, 40.0]])
    clip(engine)
    torch.testing.assert_close(network.weight.grad, torch.tensor([[0.6, 0.8]]), atol=1e-5, rtol=0)
    network.weight.grad = torch.tensor([[30.0, 40.0]])
    engine.state.iteration = 1
    clip(engine)
    assert network.weight.grad[0, 0] == 30
    engine.state.iteration = 3
    network.weight.grad[0, 0] = float("inf")
    clip(engine)
    assert network.weight.grad is None


def test_frozen_parts_do_not_learn_for_some_epochs():
    network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    freeze = Freeze(network, ["0"], epochs=2)
    engine = Engine(lambda *_: None)
    learning = []
    for epoch in (1, 2, 3):
        engine.state.epoch = epoch
        freeze(engine)
        learning.append([p.requires_grad for p in network.parameters()])
    assert learning == [[False, False, True, True]] * 2 + [[True] * 4]
    with pytest.raises(ValueError, match=r"parts \['2'\]: the network has 0, 1"):
        Freeze(network, ["2"])
    nested = nn.ModuleDict({"decoder": network})
    Freeze(nested, ["decoder.1"])
    assert [p.requires_grad for p in nested.parameters()] == [True, True, False, False]


def test_a_seeded_dataset_draws_the_same_for_any_workers():
    class Draw(Randomizable):
        def __call__(self, item):
            return torch.tensor([item + self.R.rand()])

    def drawn(workers: int, seed: int) -> list[float]:
        dataset = SeededDataset([10, 20, 30], Draw(), 7, seed)
        loader = DataLoader(dataset, batch_size=2, num_workers=workers)
        return [float(v) for batch in loader for v in batch.flatten()]

    first = drawn(0, 5)
    assert [int(v) // 10 for v in first] == [1, 2, 3, 1, 2, 3, 1]
    assert drawn(2, 5) == first
    assert drawn(0, 6) != first
