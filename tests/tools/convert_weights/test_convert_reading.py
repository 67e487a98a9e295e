# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Checkpoints are read without running anything of theirs, and what is no checkpoint is refused."""

import os
import pickle

import numpy as np
import pytest
import torch

from tools.convert_weights.reading import read_checkpoint


@pytest.mark.parametrize("wrapper", ["model_state_dict", "state_dict", "model", ""])
@pytest.mark.parametrize("prefix", ["module.", ""])
def test_what_trainers_put_around_the_weights(publish, sam, wrapper, prefix):
    checkpoint = read_checkpoint(publish(sam, wrapper, prefix))
    assert list(checkpoint.state) == list(sam)
    assert all(torch.equal(checkpoint.state[key], value) for key, value in sam.items())
    assert bool(checkpoint.beside) == bool(wrapper)
    assert any("module." in note for note in checkpoint.notes) == bool(prefix)


def test_numbers_as_numpy_1_wrote_them(tmp_path, sam):
    """Its name for the function that makes a number was another one."""
    path = tmp_path / "numpy1.pth"
    content = {"model_state_dict": sam, "losses": [np.float64(0.5)]}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert b"numpy._core.multiarray" in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_checkpoint(path).beside == {"losses": "training history"}


class _Malicious:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("call", ["os.system", "builtins.eval", "builtins.exec", "getattr", "numpy.load"])
def test_a_checkpoint_that_would_run_code_is_refused(call, zipped, tmp_path, sam):
    trace = tmp_path / "trace"
    malicious = {
        "os.system": _Malicious(os.system, f"touch {trace}"),
        "builtins.eval": _Malicious(eval, f"open({str(trace)!r}, 'w')"),
        "builtins.exec": _Malicious(exec, f"open({str(trace)!r}, 'w')"),
        "getattr": _Malicious(getattr, "text", "upper"),
        "numpy.load": _Malicious(np.load, str(trace), None, True),
    }[call]
    path = tmp_path / "malicious.pth"
    torch.save({"model_state_dict": sam, "args": malicious}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"refused, because reading it could run code \(it asks for ") as refused:
        read_checkpoint(path)
    assert "weights_only" not in str(refused.value)
    assert not trace.exists()
    # It would have run it.
    if call == "os.system":
        torch.load(path, weights_only=False)
        assert trace.exists()


def test_a_plain_pickle_is_refused(tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "plain.pth"
    path.write_bytes(pickle.dumps(_Malicious(os.system, f"touch {trace}"), protocol=2))
    with pytest.raises(ValueError, match="plain.pth"):
        read_checkpoint(path)
    assert not trace.exists()


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_another_pickle_protocol_opens_no_door(protocol, tmp_path, sam):
    trace, path = tmp_path / "trace", tmp_path / "malicious.pth"
    content = {"model": sam, "args": _Malicious(os.system, f"touch {trace}")}
    torch.save(content, path, pickle_protocol=protocol)
    with pytest.raises(ValueError, match="malicious.pth: (refused|cannot be read)") as refused:
        read_checkpoint(path)
    assert "weights_only" not in str(refused.value)
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html>Quota exceeded</html>", bytes(range(256)) * 20])
def test_no_checkpoint_at_all(tmp_path, content):
    (tmp_path / "page.pth").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read") as refused:
        read_checkpoint(tmp_path / "page.pth")
    assert "weights_only" not in str(refused.value)


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_a_truncated_file(publish, sam, kept):
    path = publish(sam)
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(ValueError, match="cannot be read .*(download it again|damaged)"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "holds list"),
        ({}, "holds dict"),
        ({"model": {}}, "nothing in place of tensors"),
        ({"a": torch.zeros(1), "b": "text"}, "b in place of tensors"),
        ({"model": {"a": torch.zeros(1)}, "surprise": 1}, "unknown entries beside model: surprise"),
    ],
)
def test_no_state_dict(tmp_path, content, message):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / "other.pth")


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_checkpoint(tmp_path / "missing.pth")
