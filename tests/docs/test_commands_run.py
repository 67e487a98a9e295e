# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The commands of the documents are run, one after the other, on small files with the names that the documents use.

The README's in every run of the tests, the other pages' with ``-m slow``. What cannot be run here is listed, with what
it needs; that its options exist is tested with all others.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documented import ROOT, Command, documents
from readers_folder import copy_run, make_folder, run

# What a command holds that cannot be run here, and why.
NOT_RUN = (
    (r"^docs/(reproduce|notebook)", "the papers' data, or hours; every overlay is trained with in test_experiments"),
    (r"^docs/(monailabel|security|click_anywhere)", "a server; its own tests start it"),
    (r"^docs/click_anywhere", "a server; tests/tools/interactive_server starts it, tests/tools/test_click the page"),
    (r"^docs/batch|: sam-bundles", "images of the user; tests/tools/batch runs such commands, and reads these"),
    (r"record_bash", "a whole environment is made; its --help is tested"),
    (r": torchrun", "two processes; tests of training start them"),
    (r"--download|\.pth|published\.pt|sam_med3d\.pt|vit_b", "weights of others, which their user fetches"),
    (r"shared/data|runs/sets", "open data sets, which are not part of the project"),
    (r"--kind to_sam", "a network that was tuned on SAM's weights"),
)
QUICK = ("README.md",)


def not_run(command: Command) -> str | None:
    """Why a command is not run here; None where it is."""
    return next((why for pattern, why in NOT_RUN if re.search(pattern, str(command))), None)


def _pages() -> list:
    names = [str(page.relative_to(ROOT)) for page in documents()]
    return [pytest.param(name, id=name, marks=[] if name in QUICK else pytest.mark.slow) for name in names]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, commands: list[Command]) -> Path:
    """The run of the README's training of ssam_2d."""
    folder = tmp_path_factory.mktemp("trained")
    make_folder(folder)
    (command,) = (c for c in commands if c.document == "README.md" and "runs/mine" in c.words and "DATA" in c.words)
    with pytest.MonkeyPatch.context() as patch:
        run(command, folder, patch)
    return folder / "runs" / "mine"


@pytest.mark.parametrize("page", _pages())
def test_the_commands_of_a_page_run(
    page: str, commands: list[Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """In their order: what one writes, the next one reads."""
    shown = [command for command in commands if command.document == page]
    tried = [command for command in shown if not_run(command) is None]
    if not tried:
        pytest.skip("; ".join(dict.fromkeys(not_run(command) for command in shown)) or "it shows no commands")
    make_folder(tmp_path)
    named = [name for name in ("organs", "polyps") if any(f"runs/{name}" in str(command) for command in tried)]
    if named:
        copy_run(request.getfixturevalue("trained"), tmp_path, *named)
    for command in tried:
        run(command, tmp_path, monkeypatch)


def test_the_readme_shows_what_is_run(commands: list[Command]) -> None:
    """A click, a training and its use."""
    assert sum(command.document in QUICK and not_run(command) is None for command in commands) >= 3
