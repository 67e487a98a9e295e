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
PARTS = {"imports", "metadata", "network", "handlers", "initialize", "run", "finalize"}
# Configurations that are run, each with those that are laid over it.
CONFIGURATIONS = {
    "fastsam3d": {"inference.json": [["published.json"], ["published_sammed3d.json"], ["inference_trt.json"]]},
}
CASES = [(bundle, config) for bundle, configs in CONFIGURATIONS.items() for config in configs]
STACKS = [(bundle, [config, *over]) for bundle, config in CASES for over in CONFIGURATIONS[bundle][config]]


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


def options(bundle, configs, **given):
    parser = ConfigParser()
    parser.read_config([str(BUNDLES / bundle / "configs" / name) for name in configs])
    parser.update({"bundle_root": str(BUNDLES / bundle), **given})
    return parser.get_parsed_content("options")


@pytest.mark.parametrize(("bundle", "config"), CASES)
def test_every_option_has_a_field_and_every_field_an_option(bundle, config, scripts_of):
    scripts_of(bundle)
    content = json.loads((BUNDLES / bundle / "configs" / config).read_text(encoding="utf-8"))
    ids = {k for k, v in content.items() if k not in PARTS and not (isinstance(v, dict) and "_target_" in v)}
    fields = type(options(bundle, [config])).model_fields
    assert ids == set(fields)
    assert all(field.description for field in fields.values())


@pytest.mark.parametrize(("bundle", "configs"), STACKS, ids=lambda x: x if isinstance(x, str) else "+".join(x))
def test_overlays_fit_the_options(bundle, configs, scripts_of):
    scripts_of(bundle)
    assert options(bundle, configs).bundle_root == str(BUNDLES / bundle)


@pytest.mark.parametrize(("bundle", "config"), CASES)
def test_a_wrong_option_ends_with_its_sentence(bundle, config, tmp_path):
    words = {"bundle_root": BUNDLES / bundle, "config_file": BUNDLES / bundle / "configs" / config, "out_dir": "a"}
    command = [sys.executable, "-m", "monai.bundle", "run", *(f"--{k}={v}" for k, v in words.items())]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    lines = ended.stderr.splitlines()
    assert ended.returncode == 1 and "Traceback" not in ended.stdout + ended.stderr
    assert lines[-1].startswith("error: out_dir: there is no such option; did you mean output_dir?")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["inferer", "preprocessing"])
@pytest.mark.parametrize("bundle", CONFIGURATIONS)
def test_what_a_server_builds_alone_checks_the_options_too(bundle, part, scripts_of):
    scripts_of(bundle)
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / bundle / "configs" / "inference.json"))
    parser["window"] = 5
    with pytest.raises(RuntimeError) as caught:
        parser.get_parsed_content(part)
    assert str(caught.value.__cause__).startswith("window is 5: expected auto, ct, percentile or [low, high]")
