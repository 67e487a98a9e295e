# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The average of the weights, and how far a training has come."""

import pytest
import torch
from ignite.engine import Engine, Events
from monai.optimizers import WarmupCosineSchedule
from torch import nn

from common.training import AverageWeights, Progress
from common.training.progress import STEPS


def engine_of(process=lambda engine, batch: None):
    engine = Engine(process)
    engine.accumulation_steps = 1
    return engine


def test_the_average_is_that_of_the_formula():
    network = nn.Linear(1, 1, bias=False)
    values = [3.0, -1.0, 4.0, 1.0, 5.0, 9.0]

    def step(engine, value):
        network.weight.data.fill_(value)

    engine, average = engine_of(step), AverageWeights(network, keep=0.4)
    average.attach(engine)
    engine.run(values)
    expected = values[0]
    for number, value in enumerate(values[1:], start=2):
        keep = min(0.4, (1 + number) / (10 + number))
        expected = keep * expected + (1 - keep) * value
    assert average.network.weight.item() == pytest.approx(expected)
    assert network.weight.item() == 9.0
    again = AverageWeights(nn.Linear(1, 1, bias=False), keep=0.4)
    again.load_state_dict(average.state_dict())
    assert again.network.weight.item() == average.network.weight.item()


def test_only_steps_of_the_optimizer_count():
    engine, average = engine_of(), AverageWeights(nn.Linear(1, 1), keep=0.9)
    engine.accumulation_steps = 2
    average.attach(engine)
    engine.run(range(5))
    assert int(average.model.n_averaged) == 3


def test_no_average_is_the_network_itself():
    network = nn.Linear(1, 1)
    average = AverageWeights(network, keep=None)
    assert average.network is network and average.state_dict() == {}
    for keep in (0, 1, 1.5):
        with pytest.raises(ValueError, match=f"average {keep}: expected a share"):
            AverageWeights(network, keep)


def rates(epochs, batches, minutes=None, seconds=0.0, monkeypatch=None):
    """The learning rate that each step had, when a step takes so many seconds."""
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    seen, clock = [], [0.0]

    def step(engine, batch):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        clock[0] += seconds

    monkeypatch.setattr("common.training.progress.monotonic", lambda: clock[0])
    schedule = WarmupCosineSchedule(optimizer, warmup_steps=STEPS // 10, t_total=STEPS, warmup_multiplier=0.01)
    engine, ended = engine_of(step), []
    Progress(schedule, minutes).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: ended.append(e.state.iteration))
    engine.run(range(batches), max_epochs=epochs)
    return seen, ended


def test_the_rate_follows_the_epochs(monkeypatch):
    seen, ended = rates(4, 10, monkeypatch=monkeypatch)
    assert len(seen) == 40 and ended == [10, 20, 30, 40]
    assert seen[0] == pytest.approx(0.01) and seen[4] == pytest.approx(1.0)
    assert seen[22] == pytest.approx(0.5)
    assert seen[4:] == sorted(seen[4:], reverse=True) and seen[-1] < 0.01


def test_the_rate_follows_the_minutes_and_ends_with_them(monkeypatch):
    by_epochs, _ = rates(4, 10, monkeypatch=monkeypatch)
    seen, ended = rates(1000, 16, minutes=2, seconds=3.0, monkeypatch=monkeypatch)
    assert seen == pytest.approx(by_epochs)
    # The last epoch ends early, and as an epoch ends.
    assert ended == [16, 32, 40]


def test_minutes_that_cannot_be():
    schedule = torch.optim.lr_scheduler.LambdaLR(torch.optim.SGD([nn.Parameter(torch.ones(1))]), lambda step: 1)
    with pytest.raises(ValueError, match="max_minutes 0: expected a positive number"):
        Progress(schedule, 0)
