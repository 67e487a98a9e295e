# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

import pytest
import torch
from torch import nn

from common.weights import load_weights


def test_weights_that_are_not_there_are_looked_for_beside(tmp_path):
    with pytest.raises(ValueError, match="base.pt: no such file; expected the network's weights"):
        load_weights(nn.Linear(1, 1), tmp_path / "models" / "base.pt")
    (tmp_path / "models" / "bases").mkdir(parents=True)
    (tmp_path / "models" / "bases" / "small.pt").write_bytes(b"")
    (tmp_path / "models" / "README.md").write_text("")
    with pytest.raises(ValueError, match=r"base.pt: no such file, but there is \S+models/bases/small.pt; expected"):
        load_weights(nn.Linear(1, 1), tmp_path / "models" / "base.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused_and_not_loaded(tmp_path, value):
    network, broken = nn.Linear(3, 2), nn.Linear(3, 2)
    before = network.weight.detach().clone()
    with torch.no_grad():
        broken.weight[1, 2] = value
    torch.save(broken.state_dict(), tmp_path / "broken.pt")
    with pytest.raises(ValueError, match="broken.pt: 1 of 2 tensors hold NaN or infinite numbers .weight.; expected"):
        load_weights(network, tmp_path / "broken.pt")
    assert torch.equal(network.weight, before)
