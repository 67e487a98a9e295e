# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The last line of a failed command, and exceptions that are shown in full."""

import errno
import logging
import sys

import pytest
from monai.transforms import Compose, Lambda
from monai.utils.module import instantiate

from common import last_sentence
from common.devices import checked_device
from common.files import check_writable


def raised(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_the_sentence_of_what_monai_wraps():
    error = raised(instantiate, "common.devices.checked_device", "default", device="gpu7")
    assert isinstance(error, RuntimeError)
    assert last_sentence.sentence(error).startswith("device 'gpu7':")
    # Not the reason of the reason.
    assert "expected auto or one of" in last_sentence.sentence(error)
    error = raised(Compose([Lambda(checked_device)]), "gpu7")
    assert last_sentence.sentence(error).startswith("device 'gpu7':")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a/b.part"), "/a/b.part: the disk is full; expected room"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/a"), "/a: No such file or directory"),
        (MemoryError(), "the memory is not enough"),
        (ValueError("Caught ValueError in DataLoader worker process 0.\n  File x\nValueError: a: no"), "a: no"),
        (ValueError("too many values to unpack"), None),
        (TypeError("a of b"), None),
    ],
    ids=str,
)
def test_other_errors(error, said):
    found = last_sentence.sentence(error)
    assert found is None if said is None else found.startswith(said)


@pytest.fixture
def on_the_command_line(monkeypatch):
    monkeypatch.setattr(last_sentence, "is_command_line", lambda: True)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    last_sentence.end_with_the_sentence()
    yield
    logging.getLogger().removeHandler(handler)
    for left in logging.getLogger().handlers:
        left.removeFilter(last_sentence._is_news)


def test_the_sentence_stands_alone(on_the_command_line, tmp_path, capsys):
    (tmp_path / "a").write_text("")
    error = raised(check_writable, tmp_path / "a")
    logging.getLogger("ignite.engine.engine.X").error("Current run is terminating due to exception: %s", error)
    sys.excepthook(type(error), error, error.__traceback__)
    assert capsys.readouterr().err.startswith(f"Error: output_dir {tmp_path / 'a'}: ")


def test_a_fault_of_the_program_is_shown_whole(on_the_command_line, capsys):
    error = raised(lambda: [][3])
    sys.excepthook(type(error), error, error.__traceback__)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1] == f"Error: IndexError: list index out of range ({last_sentence.REPORT})"


def test_other_programs_keep_their_hook():
    before = sys.excepthook
    last_sentence.end_with_the_sentence()
    assert sys.excepthook is before and not last_sentence.is_command_line()
