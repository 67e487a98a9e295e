# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Half precision where the processor has it; what comes out is float32, and every weight gets its gradient."""

from typing import NamedTuple

import pytest
import torch
from monai.inferers import SimpleInferer
from torch import Tensor, nn

from common import precision
from common.precision import MixedPrecision, computes_bfloat16


class Answers(NamedTuple):
    logits: Tensor
    names: str


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)
        self.seen = []

    def forward(self, x):
        with torch.no_grad():
            self.layer(x)
        answer = self.layer(x)
        self.seen.append(answer.dtype)
        return {"answers": Answers(answer, "a"), "counts": torch.ones(2, dtype=torch.int64), "pair": (answer, None)}


@pytest.mark.parametrize("amp, half", [(True, True), ("true", True), (False, False), ("False", False)])
def test_the_precision_asked_for_inside_and_float32_outside(amp, half):
    network, x = Network(), torch.randn(3, 8)
    answer = MixedPrecision(SimpleInferer(), amp)(x, network)
    assert network.seen == [torch.bfloat16 if half else torch.float32]
    assert answer["answers"].logits.dtype == answer["pair"][0].dtype == torch.float32
    assert answer["answers"].names == "a" and answer["pair"][1] is None and answer["counts"].dtype == torch.int64
    # A weight that was cast without a gradient must not be taken for the pass that has one.
    answer["answers"].logits.sum().backward()
    assert torch.allclose(network.layer.weight.grad, x.sum(0).expand(4, -1), atol=0.1 if half else 1e-5)


@pytest.mark.parametrize("there", [True, False])
def test_auto_asks_the_device(there, monkeypatch):
    monkeypatch.setattr(precision, "computes_bfloat16", lambda device: there)
    network = Network()
    MixedPrecision(SimpleInferer())(torch.randn(3, 8), network)
    assert network.seen == [torch.bfloat16 if there else torch.float32]


def test_what_computes_bfloat16():
    assert isinstance(computes_bfloat16(torch.device("cpu")), bool)
    assert not computes_bfloat16(torch.device("meta"))


def test_without_avx512_nothing_is_computed_in_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    for capability, there in (("AVX512", True), ("AVX2", False), ("DEFAULT", False)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda c=capability: c)
        assert computes_bfloat16(torch.device("cpu")) == there


def test_anything_else_is_refused():
    with pytest.raises(ValueError, match="amp 'half': expected true or false"):
        MixedPrecision(SimpleInferer(), "half")
