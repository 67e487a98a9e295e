# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Weights of the earlier refiner in the wider one: the same masks."""

import copy

import numpy as np
import pytest
import torch

from bundles.fastsam3d.scripts.networks.refiner import Refiner
from common.weights import load_weights
from tools.train_default import build_network
from tools.widen_refiner import BEFORE, copies, main, widened


@pytest.fixture(scope="module")
def networks():
    """Today's network, and the same with the earlier refiner; nothing at its initial zeros and ones."""
    torch.manual_seed(0)
    today = build_network().eval()
    earlier = copy.deepcopy(today)
    earlier.refiner = Refiner(16, BEFORE).eval()
    with torch.no_grad():
        for parameter in (*earlier.refiner.parameters(), *today.refiner.context.parameters()):
            parameter.add_(0.05 * torch.randn_like(parameter))
    return earlier, today


@torch.no_grad()
def test_the_masks_stay_and_the_embedding_can_be_learned_to_be_read(networks, tmp_path):
    earlier, today = networks
    torch.save(earlier.state_dict(), tmp_path / "in.pt")
    assert main([str(tmp_path / "in.pt"), str(tmp_path / "out.pt")]) == 0
    today = copy.deepcopy(today)
    load_weights(today, tmp_path / "out.pt")
    image = torch.randn(1, 1, 64, 64, 64)
    points, labels = torch.tensor([[[20.0, 30, 40], [50, 30, 20]]]), torch.tensor([[1, 0]])
    before, after = (n.decode(n.encode(image), points, labels, rounds=2)[0] for n in (earlier, today))
    # Groups of channels have a slightly other mean where some are there twice.
    assert (before - after).abs().mean() < 0.02 * before.abs().mean()
    assert ((before > 0) == (after > 0)).float().mean() > 0.99
    assert today.refiner.context.mix.weight.abs().min() > 0


@pytest.mark.parametrize("after", [64, 72, 128])
def test_copies_stay_in_their_group_and_share_the_weight_of_the_old_one(after):
    source, share = copies(64, after, np.random.default_rng(0))
    assert (source.view(4, -1) // 16 == torch.arange(4)[:, None]).all()
    assert torch.allclose(torch.zeros(64).index_add_(0, source, share), torch.ones(64))
    assert after == 64 or (share < 1).any()


def test_weights_of_another_network_are_refused(networks, tmp_path, capsys):
    torch.save(networks[1].state_dict(), tmp_path / "wide.pt")
    assert main([str(tmp_path / "wide.pt"), str(tmp_path / "out.pt")]) == 1
    assert "weights of another network" in capsys.readouterr().err and not (tmp_path / "out.pt").exists()
    with pytest.raises(ValueError, match="refiner"):
        widened({}, networks[1])
