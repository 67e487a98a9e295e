# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The learning rate of train.json, epoch by epoch."""

import pytest
import torch

from bundles.ssam_2d.scripts.training.schedule import rate_schedule


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


def rates(own, schedule, epochs):
    seen = []
    for _ in range(epochs):
        seen.append(own.param_groups[0]["lr"])
        own.step()
        schedule.step()
    return seen


def test_up_in_a_tenth_and_down_along_half_a_cosine_by_default():
    own = optimizer()
    seen = rates(own, rate_schedule(own, 4), 4)
    assert seen == pytest.approx([0.1, 0.0853553, 0.05, 0.0146447], abs=1e-6)
    assert own.param_groups[0]["lr"] == pytest.approx(0)
    own = optimizer()
    long = rates(own, rate_schedule(own, 40), 40)
    assert long[:5] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1], rel=0.02) and max(long) == pytest.approx(0.1)
    assert long[22] == pytest.approx(0.05, rel=0.1) and long[4:] == sorted(long[4:], reverse=True)


def test_steps_where_they_are_asked_for():
    own = optimizer()
    assert rates(own, rate_schedule(own, 9, 2, 0.5), 5) == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025])


def test_more_epochs_than_were_planned_have_the_rate_of_the_new_length():
    short, long, whole = optimizer(), optimizer(), optimizer()
    planned = rate_schedule(short, 2)
    first = rates(short, planned, 2)
    assert first == pytest.approx([0.1, 0.05])
    longer = rate_schedule(long, 4)
    long.load_state_dict(short.state_dict())
    longer.load_state_dict(planned.state_dict())
    assert rates(long, longer, 2) == pytest.approx(rates(whole, rate_schedule(whole, 4), 4)[2:])


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"epochs": 3, "step_epochs": 0}])
def test_no_epochs_are_refused(wrong):
    with pytest.raises(ValueError, match="expected 1 or more"):
        rate_schedule(optimizer(), **wrong)
