# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Options are checked before anything else of a configuration is made, and corrected where they were typed."""

import json
import sys
from typing import Annotated, Literal

import pytest
from monai.bundle import ConfigParser
from pydantic import Field

from common.options import Options, schema, typed
from common.options.kinds import Bytes, Number, Path, Switch, Whole, Window
from common.options.words import in_words


class Some(Options):
    """some.json."""

    folder: Path = Field(description="of results")
    rounds: Annotated[Whole, Field(ge=1, le=9)] = Field(description="how often")
    size: Annotated[Whole, Field(ge=16, le=64, multiple_of=16)] | None = Field(description="voxels")
    spacing: Annotated[Number, Field(gt=0)] = Field(description="mm")
    amp: Switch | Literal["auto"] = Field(description="precision")
    window: Window = Field(description="intensities")
    kept: Bytes = Field(description="memory")
    names: list[str] | None = Field(description="of labels")


PLAIN = {"folder": "out", "rounds": 3, "size": 32, "spacing": 1.5, "amp": "auto", "window": "ct", "kept": 0}
CONFIG = {
    "root": "there",
    **PLAIN,
    "names": None,
    "file": "$@folder + '/a'",
    "options": {"_target_": f"{__name__}.Some.checked"},
    "part": {"_target_": "dict", "_requires_": "@options", "file": "@file", "rounds": "@rounds", "root": "@root"},
    "run": ["$@options", "$@part"],
}


def resolved(name="part", **given):
    sys.modules.setdefault(__name__, sys.modules[Some.__module__])
    return ConfigParser({**CONFIG, **given}).get_parsed_content(name)


def refusal(**given):
    """What is said of the options, by the exception that MONAI wraps."""
    with pytest.raises(RuntimeError) as caught:
        resolved(**given)
    assert isinstance(caught.value.__cause__, ValueError)
    return str(caught.value.__cause__)


def test_values_are_checked_and_given_on():
    assert resolved(rounds="3", amp="true") == {"file": "out/a", "rounds": 3, "root": "there"}
    options = resolved("options", amp="true", spacing="$1 + 1", window=[1, 2.5], size=None)
    assert options.amp is True and options.spacing == 2.0 and options.window == (1.0, 2.5) and options.size is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rounds": "many"}, "rounds is 'many': expected a whole number from 1 to 9"),
        ({"rounds": True}, "rounds is True: expected a whole number from 1 to 9"),
        ({"rounds": 0}, "rounds is 0: expected a whole number from 1 to 9"),
        ({"rounds": None}, "rounds is None: expected a whole number from 1 to 9"),
        ({"folder": ""}, "folder is '': expected a path"),
        ({"rounds": 1.5}, "rounds is 1.5: expected a whole number from 1 to 9"),
        ({"size": 24}, "size is 24: expected a whole number from 16 to 64 that is a multiple of 16 or null"),
        ({"spacing": float("nan")}, "spacing is nan: expected a number above 0"),
        ({"amp": "maybe"}, "amp is 'maybe': expected true or false or auto"),
        ({"window": 5}, "window is 5: expected auto, ct, percentile or [low, high] with low < high"),
        ({"window": [2, 1]}, "window is [2, 1]: expected auto, ct, percentile or [low, high] with low < high"),
        ({"kept": "512MB"}, "kept is '512MB': expected a whole number of bytes, 0 or more"),
        ({"folder": 202501}, "folder is 202501: expected a path"),
        ({"names": "liver"}, "names is 'liver': expected [a text, ...] or null"),
        ({"spacing": "$1 / 0"}, "spacing is '$1 / 0': MONAI evaluates what begins with $ or @, and could not"),
        ({"folder": "@nowhere"}, "folder is '@nowhere': MONAI evaluates what begins with $ or @, and could not"),
        ({"spacing": "$-1.0"}, "spacing is -1.0: expected a number above 0"),
        ({"folder": "a#b"}, "folder is 'a::b': MONAI writes # in a text as ::"),
        ({"round": 2}, "round: there is no such option; did you mean rounds?"),
        ({"colour": {"a": 1}}, "colour: there is no such option; the options are folder, rounds"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_by_one_sentence(given, said):
    assert refusal(**given).startswith(said)


def test_all_that_is_wrong_is_said_at_once():
    said = refusal(rounds=0, foldr="x", window=None).splitlines()
    assert [line.split()[0] for line in said] == ["foldr:", "rounds", "window"]


def test_parts_that_overlays_add_and_what_is_run_are_no_options():
    added = {"mine": 3, "twice": "$2 * @mine", "spacing": "@twice", "_note_": "x", "again": {"_target_": "dict"}}
    assert resolved("options", **added).spacing == 6
    assert resolved("mine_too", mine_too="$@options.rounds + 1") == 4
    assert resolved("run::1", evaluating=["$@part"])["rounds"] == 3


@pytest.fixture
def command_line(monkeypatch):
    """Resolves what the words of a command line give, as fire and MONAI hand it over."""
    from fire.parser import DefaultParseValue

    def given(*words, **config):
        monkeypatch.setattr(typed, "is_command_line", lambda: True)
        monkeypatch.setattr(sys, "argv", ["monai.bundle", "run", *words])
        pairs = [w.split("=", 1) if "=" in w else [w, words[i + 1]] for i, w in enumerate(words) if w[:2] == "--"]
        pairs = [(k, v) for k, v in pairs if k != "--config_file"]
        return resolved(
            "options", **{k[2:]: DefaultParseValue(v) for k, v in pairs if DefaultParseValue(v) is not None}, **config
        )

    return given


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        (["--folder", "2025_01"], "2025_01"),
        (["--folder=2025_01"], "2025_01"),
        (["--folder", "out#2"], "out#2"),
        (["--folder", "/a b/out#2"], "/a b/out#2"),
        (["--folder", "out::2"], "out::2"),
        (["--folder", "'out#2'"], "out#2"),
        (["--folder", "1e3"], "1e3"),
        (["--folder", "True"], "True"),
        (["--folder", "a,b"], "a,b"),
        (["--folder", "first", "--folder", "2#1"], "2#1"),
    ],
)
def test_a_path_is_what_was_typed(command_line, words, folder):
    assert command_line(*words).folder == folder


def test_other_options_are_what_fire_reads(command_line):
    options = command_line("--rounds", "4", "--window", "[1,2]", "--names", "['a#1','2_2']")
    assert (options.rounds, options.window, options.names) == (4, (1, 2), ["a#1", "2_2"])
    # MONAI drops it, and 32 would stay.
    assert [command_line("--size", none).size for none in ("None", "null", "''")] == [None] * 3
    # The configuration may hold another value than the one that was typed.
    assert typed.as_typed("folder", "other", Some.model_fields["folder"]) == "other"


@pytest.mark.parametrize(
    "typed_text", ['{"a": 1, "a": 2}', "{a: 1, 'a': 2}", "{1: {'b': 1, 'b': 2}}", "[{'b': 1}, {'b': 1, b: 2}]"]
)
def test_a_key_that_was_typed_twice_is_refused(command_line, typed_text):
    with pytest.raises(RuntimeError) as caught:
        command_line("--names", typed_text)
    assert "comes twice; expected every key once" in str(caught.value.__cause__)


def test_a_value_in_the_place_of_a_part_is_refused(command_line, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(CONFIG))
    file = ["--config_file", str(tmp_path / "a.json")]
    for words in (["--part", "3"], ["--file", "x"], ["--run", "x"]):
        with pytest.raises(RuntimeError) as caught:
            command_line(*file, *words)
        said = str(caught.value.__cause__)
        assert said.startswith(f"{words[0][2:]}: this is a part of the workflow and no option")
    # A value of a configuration's own may be another one.
    assert command_line(*file, "--root", "elsewhere").folder == "out"


class Scores(Options):
    """scores.json."""

    below = Some
    folder: Path = Field(description="of results")


def test_an_option_of_the_configuration_below_that_does_nothing_is_refused(command_line):
    # Parts of the configuration below refer to what stands there as a default.
    below = {"_target_": "dict", "all": [f"@{name}" for name in (*PLAIN, "names")]}
    scores = {"options": {"_target_": f"{__name__}.Scores.checked"}, "below": below}
    assert resolved("options", size=None, **scores).folder == "out"
    # A value that stands in a configuration may be its default.
    assert resolved("options", size=None, **scores, names=["liver"]).folder == "out"
    with pytest.raises(RuntimeError) as caught:
        command_line("--rounds", "4", size=None, **scores)
    assert str(caught.value.__cause__).startswith("rounds: it has no effect here; expected it with")


def test_outside_a_configuration_nothing_can_be_checked():
    with pytest.raises(RuntimeError, match="_target_"):
        Some.checked()


def test_words_for_every_kind():
    assert [in_words(field) for field in Some.model_fields.values()][3:6] == [
        "a number above 0",
        "true or false or auto",
        "auto, ct, percentile or [low, high] with low < high",
    ]
    assert schema._short("x" * 500).endswith("...")
