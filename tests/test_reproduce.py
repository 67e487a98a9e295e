# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""docs/reproduce.md names only what is there."""

import re
import subprocess
from pathlib import Path

import pytest

from tools.prepare_data.catalogue import DATA_SETS
from tools.report.__main__ import DATA_SETS as QUOTED

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "reproduce.md").read_text()
CODE = "\n".join(re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL))


@pytest.mark.parametrize("bundle", ["ssam_2d", "fastsam3d"])
def test_overlays_exist(bundle):
    configs = ROOT / "bundles" / bundle / "configs"
    calls = re.findall(rf'files {bundle} ([^"]*?)\)', CODE)
    assert calls
    for call in calls:
        for name in call.split():
            assert "$" in name or (configs / f"{name}.json").is_file(), name


def test_overlays_in_loops_and_tables_exist():
    names = set(re.findall(r"(?:experiments|variants)/[a-z_0-9]+", TEXT)) - {"experiments/published_"}
    names |= {f"experiments/{name}" for name in re.findall(r"\bprompts_[a-z_]+|\b(?:lora|salt)_rank_\d+", CODE)}
    assert len(names) > 25
    for name in names:
        assert any((ROOT / "bundles" / b / "configs" / f"{name}.json").is_file() for b in ("ssam_2d", "fastsam3d")), (
            name
        )


def test_data_sets_are_known_and_have_overlays():
    listed = re.findall(r"`NAME` is (?:one of )?([^.]*)\.", TEXT)
    names = re.findall(r"`([a-z_0-9]+)`", " ".join(listed))
    assert len(names) == 8
    for name in names:
        assert name in DATA_SETS
        assert any(
            (ROOT / "bundles" / b / "configs/experiments" / f"{name}.json").is_file() for b in ("ssam_2d", "fastsam3d")
        )
    for name in re.findall(r"^[^#\n]*--data-set (\w+)", CODE, re.MULTILINE):
        assert name in QUOTED


def test_the_shell_functions_put_configurations_together():
    functions = re.search(r"^files\(\).*$", CODE, re.MULTILINE).group()
    script = f"{functions}\nfiles ssam_2d train; files ssam_2d train vit_b experiments/glas"
    told = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    root = "'bundles/ssam_2d/configs"
    assert told == [f"[{root}/train.json']", f"[{root}/train.json',{root}/vit_b.json',{root}/experiments/glas.json']"]


def test_tools_exist():
    for name in re.findall(r"python -m (tools[.\w]*\w)", TEXT):
        place = ROOT / name.replace(".", "/")
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), name
