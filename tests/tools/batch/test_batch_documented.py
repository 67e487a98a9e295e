# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What the documents and the Dockerfile say of the command is what it takes."""

import configparser
import json
import re
import shlex
from pathlib import Path

import pytest

from sam_bundles.__main__ import COMMANDS
from tools.batch.__main__ import _pairs, arguments
from tools.batch.configuration import Configurations

ROOT = Path(__file__).parents[3]


def shown() -> list[list[str]]:
    """The words of every command in a block of bash."""
    found = []
    for page in ("README.md", "docs/batch.md"):
        for block in re.findall(r"```bash\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found += [shlex.split(line, comments=True) for line in lines if line.startswith("sam-bundles batch")]
    return found


@pytest.mark.parametrize("words", shown(), ids=lambda words: " ".join(words[2:])[:40])
def test_documented_commands_are_understood(words):
    options, others = arguments().parse_known_args(words[2:])
    configuration = Configurations(options.bundle, {})()
    for name, value in _pairs(others).items():
        configuration.value(name, value)


def test_documented_columns_are_those_of_the_bundles():
    page = (ROOT / "docs" / "batch.md").read_text()
    keys = {key for name in ("fastsam3d", "ssam_2d") for key in Configurations(name, {})().request_keys}
    assert all(f"`{key}`" in page for key in keys), keys


def test_the_dockerfile_installs_and_runs_what_there_is():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    text = (ROOT / "Dockerfile").read_text()
    extras = {name for group in re.findall(r'"\.\[(.*?)\]"', text) for name in group.split(",")}
    assert extras and extras <= set(setup["options.extras_require"])
    entries = [json.loads(line) for line in re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)]
    assert [entry[:3] for entry in entries] == [["python", "-m", "sam_bundles"]] * 2
    assert all(entry[3] in COMMANDS for entry in entries)
    for stage in text.split("FROM ")[2:]:
        assert re.findall(r"^USER (.*)$", stage, re.MULTILINE) == ["1000"]
    kept = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert all((ROOT / name).exists() for name in kept)
    needed = {
        line.split(" = ")[1].split("/")[0] for line in setup["options"]["package_dir"].split("\n") if " = " in line
    }
    assert needed <= set(kept)
