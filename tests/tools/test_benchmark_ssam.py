# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The benchmark of ssam_2d at tiny sizes: its rows, their memory, and that the contestants do what their names say."""

import json

import pytest
import torch

from common.svd_affine import Adaptation
from tools.benchmark import peak, ssam
from tools.benchmark.__main__ import main

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def networks():
    with torch.inference_mode(False):
        return ssam.Networks(CPU, quick=True)


def test_rows_with_their_memory(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(peak, "measured", lambda *given: asked.append(given[1]) or {"peak_mb": 7.0, "process_mb": 9.0})
    path = tmp_path / "numbers.json"
    assert main(["ssam", "--quick", "--json", str(path), "--no-progress"]) == 0
    result = json.loads(path.read_text())
    names = ["sam_plain", "published", "merged"]
    kinds = ("published", "ours", "lora", "full", "ours_fp32", "lora_fp32")
    names += [f"step_{kind}_b{batch}" for batch in (1, 8) for kind in kinds]
    assert [row["name"] for row in result["rows"]] == names == asked and not result["not_measured"]
    assert all(row["median_s"] > 0 and row["peak_mb"] == 7 for row in result["rows"])
    rows = {row["name"]: row for row in result["rows"]}
    assert 0 < rows["step_ours_b1"]["adapter_mb"] < 1
    assert rows["step_full_b1"]["trained"] > 10 * rows["step_ours_b1"]["trained"]
    assert "7 MB" in capsys.readouterr().out


def test_a_step_trains_and_trains_what_it_should(networks):
    for kind in ssam.STEPS:
        tuned = networks.tuned[kind.removesuffix("_fp32")]
        module = tuned.module if isinstance(tuned, Adaptation) else tuned
        trained = {id(p) for p in ssam.parameters_of(tuned)}
        before = {name: p.detach().clone() for name, p in module.named_parameters()}
        networks.contestant(f"step_{kind}_b1").run()
        moved = {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}
        assert moved and all(id(p) in trained for name, p in module.named_parameters() if name in moved)
        # The running statistics decide which hidden channels are on: some parameters may get no gradient.
        assert len(moved) > 0.5 * len(trained), kind


def test_merged_and_plain_compute_the_same_before_training(networks):
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(networks.merged(image), networks.sam_plain(image), atol=1e-4)


def test_equal_weights_are_factored_once(monkeypatch):
    calls, plain = [], ssam.layer.factor
    monkeypatch.setattr(ssam.layer, "factor", lambda weight: calls.append(weight) or plain(weight))
    with ssam.factored_once():
        one, other = (ssam.layer.factor(torch.eye(3)) for _ in range(2))
    assert len(calls) == 1 and torch.equal(one[0], other[0]) and one[0].data_ptr() != other[0].data_ptr()


@pytest.mark.skipif(not peak.RESET.exists(), reason="the kernel's account of a process is Linux's")
def test_memory_of_a_process_of_its_own():
    found = peak.measured("ssam", "step_ours_b1", 1, quick=True)
    assert 1 < found["peak_mb"] < found["process_mb"]
