# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Every command that a document shows names what is there: scripts, modules, configurations, options."""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.util
import io
import runpy
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from documented import ROOT, Command, modules_in_the_text
from monai.bundle import ConfigParser

HELP_SECONDS = 300


def _python(commands: list[Command], module: str) -> list[tuple[Command, list[str]]]:
    """The calls of a module, and what follows its name."""
    found = []
    for command in commands:
        words = list(command.words)
        if words[0] in ("python", "torchrun") and "-m" in words:
            at = words.index("-m") + 1
            if words[at] == module or (module.endswith(".") and words[at].startswith(module)):
                found.append((command, words[at:]))
    return found


def test_there_are_commands(commands):
    """Guards against a pattern that finds nothing."""
    assert len(_python(commands, "monai.bundle")) > 30
    assert len(_python(commands, "tools.")) > 25
    assert sum(c.words[0] == "record_bash" for c in commands) >= 4


def test_every_option_of_a_tool_is_known_to_it(commands):
    """The tool's own parser reads the words of the document; what it would do then is not done."""
    wrong = [
        f"{command}\n    {problem}" for command, words in _python(commands, "tools.") if (problem := _not_parsed(words))
    ]
    assert not wrong, "\n".join(wrong)


def _not_parsed(words: list[str]) -> str | None:
    """What the parser of ``python -m WORDS`` says against its words."""
    parse = argparse.ArgumentParser.parse_args
    said = io.StringIO()

    class Parsed(BaseException):
        pass

    def only_parse(self, args=None, namespace=None):
        parse(self, args, namespace)
        raise Parsed

    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", only_parse),
        mock.patch.object(sys, "argv", ["", *words[1:]]),
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(said),
    ):
        try:
            runpy.run_module(words[0], run_name="__main__")
        except Parsed:
            return None
        except SystemExit as stop:
            return said.getvalue().strip() if stop.code else None
        except ImportError as error:
            return str(error)
    return "it parsed no options"


def test_every_configuration_and_option_of_a_bundle_is_there(commands):
    """Files named by ``--config_file`` exist, and every other option is an id of theirs."""
    wrong = [
        f"{command}\n    {problem}"
        for command, words in _python(commands, "monai.bundle")
        if (problem := _not_configured(words))
    ]
    assert not wrong, "\n".join(wrong)


def _not_configured(words: list[str]) -> str | None:
    if words[1] != "run":
        return None
    options, ids = {}, []
    rest = words[2:]
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            options[word[2:]] = rest.pop(0) if rest else None
        else:
            ids.append(word)
    given = options.pop("config_file", None)
    if given is None:
        return "no --config_file"
    files = ast.literal_eval(given) if given.startswith("[") else [given]
    missing = [f for f in files if not (ROOT / f).is_file()]
    if missing:
        return f"no file {', '.join(missing)}"
    parser = ConfigParser()
    parser.read_config([str(ROOT / f) for f in files])
    for run_id in ids or ["run"]:
        if run_id not in parser:
            return f"no id {run_id} to run"
    options.pop("bundle_root", None)
    unknown = [key for key in options if key not in parser]
    return f"no option {', '.join(unknown)}" if unknown else None


def test_every_script_is_there(commands):
    """``bash tools/X.sh`` names a file that bash can read to its end."""
    for command in commands:
        if command.words[0] == "record_bash":
            script = ROOT / command.words[1]
            assert script.is_file(), str(command)
            assert subprocess.run(["bash", "-n", str(script)]).returncode == 0, str(command)


@pytest.mark.parametrize(("document", "module"), modules_in_the_text())
def test_every_module_is_there(document, module):
    """Modules named in running text and in tables."""
    assert importlib.util.find_spec(module) is not None, f"{document}: {module}"


def _commands_with_help() -> list[str]:
    names = dict.fromkeys(module for _, module in modules_in_the_text())
    found = {name: importlib.util.find_spec(name) for name in names}
    return [name for name, spec in found.items() if spec is not None and _has_a_command(spec.origin)]


def _has_a_command(file: str | None) -> bool:
    if file is None:
        return False
    place = Path(file)
    if place.name == "__init__.py":
        return (place.parent / "__main__.py").is_file()
    return "__main__" in place.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("module", _commands_with_help())
def test_help_of_every_tool(module):
    """``python -m tools.X --help`` as a command of its own."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=HELP_SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


# tools/test.sh hands its words to pytest, and tools/environment.sh is no command.
@pytest.mark.slow
@pytest.mark.parametrize("script", ["demo.sh", "monailabel.sh"])
def test_help_of_every_script(script):
    """``bash tools/X.sh --help`` says what it does, and does nothing."""
    done = subprocess.run(
        ["bash", f"tools/{script}", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=HELP_SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert script in done.stdout
