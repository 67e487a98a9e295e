# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

import pytest
import torch

from tools.research.mean_weights import main


def saved(path, **tensors):
    torch.save(tensors, path)
    return str(path)


def test_the_mean_of_each_tensor_in_its_own_dtype(tmp_path):
    one = saved(tmp_path / "one.pt", a=torch.tensor([1.0, 2]).half(), n=torch.tensor(3))
    two = saved(tmp_path / "two.pt", a=torch.tensor([3.0, 8]).half(), n=torch.tensor(5))
    out = tmp_path / "new" / "mean.pt"
    assert main([str(out), one, two]) == 0
    mean = torch.load(out, weights_only=True)
    assert mean["a"].dtype == torch.float16 and mean["a"].tolist() == [2, 5] and mean["n"] == 3
    assert [p.name for p in out.parent.iterdir()] == ["mean.pt"]
    other = tmp_path / "other.pt"
    assert main([str(other), one, one, one, two]) == 0
    assert torch.load(other, weights_only=True)["a"].tolist() == [1.5, 3.5]


def test_weights_in_half_precision(tmp_path):
    one = saved(tmp_path / "one.pt", a=torch.tensor([1.0, 0.1]), n=torch.tensor(3))
    out = tmp_path / "half.pt"
    assert main(["--half", str(out), one]) == 0
    half = torch.load(out, weights_only=True)
    assert torch.equal(half["a"], torch.tensor([1.0, 0.1]).half()) and half["n"] == 3


def test_the_averaged_weights_of_a_training_that_still_runs(tmp_path, capsys):
    state = tmp_path / "state.pt"
    average = {"n_averaged": torch.tensor(7), "module.a": torch.tensor([1.0, 4.0])}
    torch.save({"parts": {"average": average, "network": {"a": torch.zeros(2)}}}, state)
    assert main(["--half", str(tmp_path / "out.pt"), str(state)]) == 0
    out = torch.load(tmp_path / "out.pt", weights_only=True)
    assert list(out) == ["a"] and out["a"].tolist() == [1, 4] and out["a"].dtype == torch.half
    torch.save({"parts": {"average": {}}}, state)
    assert main(["--half", str(tmp_path / "other.pt"), str(state)]) == 1
    assert "no averaged weights" in capsys.readouterr().err


def test_weights_that_are_there_are_not_written_over(tmp_path, capsys):
    files = [saved(tmp_path / f"{n}.pt", a=torch.full((2,), float(n))) for n in range(3)]
    with pytest.raises(SystemExit, match="2"):
        main(files)
    assert "0.pt is there already" in capsys.readouterr().err
    assert torch.load(files[0], weights_only=True)["a"].tolist() == [0, 0]


@pytest.mark.parametrize(
    "other", [{"b": torch.ones(2)}, {"a": torch.ones(3)}, {"a": torch.ones(2), "b": torch.ones(1)}]
)
def test_other_networks_are_refused(tmp_path, capsys, other):
    one, two = saved(tmp_path / "one.pt", a=torch.ones(2)), saved(tmp_path / "two.pt", **other)
    assert main([str(tmp_path / "out.pt"), one, two]) == 1
    assert "different networks" in capsys.readouterr().err and not (tmp_path / "out.pt").exists()


def test_a_mean_needs_two_and_files_that_are_there(tmp_path, capsys):
    one = saved(tmp_path / "one.pt", a=torch.ones(2))
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "out.pt"), one])
    assert main([str(tmp_path / "out.pt"), one, str(tmp_path / "missing.pt")]) == 1
    assert "no such file" in capsys.readouterr().err
