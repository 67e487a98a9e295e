# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The options of each configuration: in step with their model, and refused from the command line in one sentence."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
# What is no option at a configuration's top level: MONAI builds or evaluates it.
PARTS = {"imports", "metadata", "network", "handlers", "train", "validate", "initialize", "run", "finalize"}
PARTS_OF = {
    "ssam_2d/inference.json": {"text_dim"},
    "ssam_2d/train.json": {"tuning", "table"},
    "ssam_2d/train_base.json": {"shown_range", "check"},
}
# Configurations that are run, one on top of the other, with those of their own that may be laid over them.
RUN = {
    "fastsam3d": {
        ("inference.json",): ["published.json", "published_sammed3d.json", "inference_trt.json"],
        ("inference.json", "evaluate.json"): ["published.json", "experiments/totalsegmentator.json"],
        ("train.json",): ["experiments/decoder.json"],
        ("train.json", "teacher.json", "train_teacher.json"): ["experiments/teacher.json"],
        ("train.json", "teacher.json", "distill.json"): ["variants/fitnets.json", "variants/logits.json"],
    },
    "ssam_2d": {
        ("inference.json",): ["published.json", "inference_trt.json", "vit_b.json", "vit_h.json"],
        ("inference.json", "evaluate.json"): ["published.json", "vit_b.json", "experiments/prompts_box.json"],
        ("train.json",): ["vit_b.json", "experiments/glas.json", "variants/lora.json"],
        ("train.json", "train_base.json"): ["vit_b.json"],
    },
}
CASES = [(bundle, stack) for bundle, stacks in RUN.items() for stack in stacks]
OVERLAYS = [(bundle, (*stack, over)) for bundle, stack in CASES for over in RUN[bundle][stack]]
STARTS = [(bundle, stack[0]) for bundle, stack in CASES if len(stack) == 1]


@pytest.fixture
def scripts_of(monkeypatch):
    """Makes the bundle's ``scripts`` importable, as ``monai.bundle`` does; forgets them after."""

    def importable(bundle):
        monkeypatch.syspath_prepend(str(BUNDLES / bundle))
        forget()

    def forget():
        for name in [n for n in sys.modules if n == "scripts" or n.startswith("scripts.")]:
            del sys.modules[name]

    yield importable
    forget()


def shown(value):
    return value if isinstance(value, str) else "+".join(value)


def options(bundle, stack, **given):
    parser = ConfigParser()
    parser.read_config([str(BUNDLES / bundle / "configs" / name) for name in stack])
    parser.update({"bundle_root": str(BUNDLES / bundle), **given})
    return parser.get_parsed_content("options")


def top(bundle, name):
    """The ids at a configuration's top level that are options."""
    content = json.loads((BUNDLES / bundle / "configs" / name).read_text(encoding="utf-8"))
    plain = {k: v for k, v in content.items() if not (isinstance(v, dict) and "_target_" in v) and v != "@teacher_def"}
    parts = PARTS | PARTS_OF.get(f"{bundle}/{name}", set())
    return {k for k in plain if k not in parts and "#" not in k and not k.startswith("+")}


@pytest.mark.parametrize(("bundle", "stack"), CASES, ids=shown)
def test_every_option_has_a_field_and_every_field_an_option(bundle, stack, scripts_of):
    scripts_of(bundle)
    fields = type(options(bundle, stack)).model_fields
    whole, *over = [top(bundle, name) for name in stack]
    assert set(fields) <= whole.union(*over) and set().union(*over) <= set(fields)
    # What is left of a configuration that another lies on has no effect there.
    assert over or whole == set(fields)
    assert all(field.description for field in fields.values())


@pytest.mark.parametrize(("bundle", "stack"), OVERLAYS, ids=shown)
def test_overlays_fit_the_options(bundle, stack, scripts_of):
    scripts_of(bundle)
    assert type(options(bundle, stack)) is type(options(bundle, stack[:-1]))


@pytest.mark.parametrize(("bundle", "name"), STARTS)
def test_a_wrong_option_ends_with_its_sentence(bundle, name, tmp_path):
    configs = BUNDLES / bundle / "configs" / name
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(configs), "--out_dir", "a", "--seed=x"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    lines = ended.stderr.splitlines()
    assert ended.returncode == 1 and "Traceback" not in ended.stdout + ended.stderr
    assert any(line.startswith("Error: out_dir: there is no such option; did you mean output_dir?") for line in lines)
    assert lines[-1].startswith("Error: seed") and not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["inferer", "preprocessing"])
@pytest.mark.parametrize("bundle", RUN)
def test_what_a_server_builds_alone_checks_the_options_too(bundle, part, scripts_of):
    scripts_of(bundle)
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / bundle / "configs" / "inference.json"))
    parser["window"] = 5
    with pytest.raises(RuntimeError) as caught:
        parser.get_parsed_content(part)
    assert str(caught.value.__cause__).startswith("window is 5: expected auto, ct, percentile or [low, high]")
