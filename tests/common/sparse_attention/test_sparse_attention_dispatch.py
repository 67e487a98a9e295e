# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.
import logging

import pytest
import torch

from common.sparse_attention import BACKENDS, PAPER_PATTERNS, dispatch, sparse_attention


def tokens(heads=6, dtype=torch.float32, head_dim=16):
    return tuple(torch.randn(1, heads, 20, head_dim).to(dtype) for _ in range(3))


class OnGPU:
    """Stands for a tensor on a GPU: all that the choice of a backend looks at."""

    device = torch.device("cuda", 0)

    def __init__(self, dtype=torch.bfloat16, head_dim=128, length=512):
        self.dtype, self.shape = dtype, (1, 6, length, head_dim)


@pytest.fixture
def gpu(monkeypatch):
    """Answers as a machine with a GPU and every package would; returns the set of installed packages."""
    installed = {"triton", "flash_attn"}
    monkeypatch.setattr(dispatch, "_installed", installed.__contains__)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    return installed


def test_auto_on_cpu_is_sdpa_and_says_so_at_debug_level(caplog):
    with caplog.at_level(logging.DEBUG, logger="common.sparse_attention"):
        sparse_attention(*tokens(), PAPER_PATTERNS)
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG and "by sdpa" in record.getMessage()


def test_forced_backend_is_taken(caplog):
    with caplog.at_level(logging.DEBUG, logger="common.sparse_attention"):
        sparse_attention(*tokens(), PAPER_PATTERNS, backend="naive")
    assert "by naive" in caplog.text


def test_auto_on_gpu(gpu):
    assert dispatch._choose(OnGPU(), PAPER_PATTERNS) == "triton"
    assert dispatch._choose(OnGPU(), ((None, 1), (512, 1))) == "flash"
    assert dispatch._choose(OnGPU(length=4096), ((None, 1), (512, 1))) == "triton"
    assert dispatch._choose(OnGPU(torch.float32), ((None, 1),)) == "sdpa"
    assert dispatch._choose(OnGPU(torch.float64), PAPER_PATTERNS) == "sdpa"
    assert dispatch._choose(OnGPU(head_dim=512), PAPER_PATTERNS) == "sdpa"
    gpu.clear()
    assert dispatch._choose(OnGPU(), PAPER_PATTERNS) == "sdpa"


def test_auto_on_an_old_gpu(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    assert dispatch._choose(OnGPU(), PAPER_PATTERNS) == "sdpa"


@pytest.mark.parametrize("backend", ["triton", "flash"])
def test_backend_that_is_not_installed_is_refused(backend, monkeypatch):
    monkeypatch.setattr(dispatch, "_installed", lambda package: False)
    with pytest.raises(ValueError, match=f'"{backend}" cannot run.*not installed; install it; or use "auto"'):
        sparse_attention(*tokens(), PAPER_PATTERNS, backend=backend)


@pytest.mark.parametrize("backend", ["triton", "flash"])
def test_backend_without_a_gpu_is_refused(backend, monkeypatch):
    monkeypatch.setattr(dispatch, "_installed", lambda package: True)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="needs a GPU and the tensors are on cpu; move them"):
        sparse_attention(*tokens(), PAPER_PATTERNS, backend=backend)


def test_reasons_name_what_is_wrong(gpu):
    assert "float32" in dispatch._obstacle("flash", OnGPU(torch.float32))
    assert "float64" in dispatch._obstacle("triton", OnGPU(torch.float64))
    assert "512" in dispatch._obstacle("triton", OnGPU(head_dim=512))


def test_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="'quick', expected one of"):
        sparse_attention(*tokens(), PAPER_PATTERNS, backend="quick")
    assert set(BACKENDS) == {"auto", "naive", "sdpa", "triton", "flash"}


@pytest.mark.parametrize("patterns", [(), ((4,),), ((4, 0),), ((0, 1),), 4, (("a", 1),), ((4, None),)])
def test_malformed_patterns_are_refused(patterns):
    with pytest.raises(ValueError, match="patterns is .*expected"):
        sparse_attention(*tokens(), patterns)


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="4 heads do not divide among 3 patterns"):
        sparse_attention(*tokens(heads=4), PAPER_PATTERNS)


def test_patterns_from_a_configuration_are_lists():
    q, k, v = tokens()
    assert torch.equal(
        sparse_attention(q, k, v, [[4, 1], [8, 2], [None, 1]]), sparse_attention(q, k, v, ((4, 1), (8, 2), (None, 1)))
    )


def test_tensors_that_do_not_fit_are_refused():
    q, k, v = tokens()
    with pytest.raises(ValueError, match="expected one shape"):
        sparse_attention(q, k[:, :, :5], v, PAPER_PATTERNS)
    with pytest.raises(ValueError, match="expected one shape"):
        sparse_attention(q[0], k[0], v[0], PAPER_PATTERNS)
    with pytest.raises(ValueError, match="at least one token"):
        sparse_attention(q[:, :, :0], k[:, :, :0], v[:, :, :0], PAPER_PATTERNS)
    with pytest.raises(ValueError, match="expected one dtype on one device"):
        sparse_attention(q, k.half(), v, PAPER_PATTERNS)
    with pytest.raises(ValueError, match="floating-point"):
        sparse_attention(*tokens(dtype=torch.int64), PAPER_PATTERNS)
