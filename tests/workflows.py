# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Helpers around a bundle's configurations: run, killed, refused."""

import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from tools.bundle_workflow import run_configs as run_configs
from tools.bundle_workflow import started as started


@contextmanager
def scripts_of(bundle: Path) -> Iterator[Path]:
    """The bundle's ``scripts`` are importable as ``monai.bundle`` imports them, and forgotten after.

    Bundles all call their code ``scripts``: the next one has to find its own.
    """
    before = list(sys.path)
    sys.path.insert(1, str(bundle))
    try:
        yield bundle
    finally:
        sys.path[:] = before
        for name in [n for n in sys.modules if n == "scripts" or n.startswith("scripts.")]:
            del sys.modules[name]


def random_network(bundle: Path) -> torch.nn.Module:
    """``network_def`` of inference.json with seeded random weights."""
    with scripts_of(bundle):
        parser = ConfigParser()
        parser.read_config(str(bundle / "configs" / "inference.json"))
        parser["bundle_root"] = str(bundle)
        torch.manual_seed(3)
        return parser.get_parsed_content("network_def")


def in_own_process(function: Callable[..., None], *arguments: Any, **options: Any) -> multiprocessing.Process:
    """``function`` in a fork that may be killed."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments, kwargs=options)
    process.start()
    return process


def run_until_killed(steps: int, run: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """``run`` in a fork that dies as by ``kill -9`` before the optimizer's step after so many."""

    def dying() -> None:
        step, left = torch.optim.AdamW.step, [steps]

        def stepped(*arguments: Any, **keywords: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments, **keywords)

        torch.optim.AdamW.step = stepped
        run(*arguments, **options)

    process = in_own_process(dying)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def refusal(run: Callable[..., Any], folder: Path, **settings: Any) -> Callable[..., str]:
    """``refused(message, image=..., ...)``: the run ends with a ValueError that says so, and writes nothing.

    Args:
        run: a workflow by its options.
        folder: that it would write to.
        settings: options that are not given otherwise.
    """

    def refused(message: str, **overrides: Any) -> str:
        with pytest.raises((ValueError, RuntimeError)) as caught:
            run(**{"output_dir": str(folder), **settings, **overrides})
        error = caught.value
        # The configuration's parser wraps what its expressions raise.
        while not isinstance(error, ValueError) and error.__cause__ is not None:
            error = error.__cause__
        assert isinstance(error, ValueError), f"{type(error).__name__}: {error}"
        assert re.search(message, str(error), re.DOTALL), str(error)
        assert not folder.is_dir() or not list(folder.rglob("*"))
        return str(error)

    return refused
