# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

import json
from pathlib import Path

import numpy as np
import pytest

from tools import compare_distillation as compare

DATA = Path(__file__).parents[3] / "shared" / "data"


def scores(*values):
    return [{f"dice@{k}": v for k in compare.CLICKS} for v in values]


def test_the_table_gives_mean_and_spread():
    lines = compare.table({"progressive": scores(0.5, 0.7), "fitnets": scores(0.4)}).splitlines()
    assert lines[0].startswith("| variant | seeds | Dice@1 |")
    assert lines[2].startswith("| progressive | 2 | 0.600 (0.500 to 0.700) |")
    assert lines[3].startswith("| fitnets | 1 | 0.400 (0.400 to 0.400) |")


def test_curves_are_drawn(tmp_path, monkeypatch):
    points = [np.array([[1, 0.1], [2, 0.4], [3, 0.5]]), np.array([[1, 0.2], [2, 0.3]])]
    monkeypatch.setattr(compare, "curves", lambda run: {"progressive": points})
    compare.draw(tmp_path, {"progressive": scores(0.5, 0.7)}, tmp_path / "new" / "curves.png")
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_too_few_volumes_are_named(tmp_path):
    with pytest.raises(ValueError, match="0 hippocampi; expected 3 or more"):
        compare.write_list(tmp_path, tmp_path / "list.json", 2, 1)


def test_training_and_kept_out_volumes_do_not_meet(tmp_path):
    images = tmp_path / "msd_hippocampus" / "images"
    images.mkdir(parents=True)
    for i in range(5):
        (images / f"h{i}.nii.gz").touch()
    compare.write_list(tmp_path, tmp_path / "list.json", 3, 2)
    content = json.loads((tmp_path / "list.json").read_text())
    names = [[Path(item["image"]).name for item in content[s]] for s in ("training", "validation")]
    assert names == [["h0.nii.gz", "h1.nii.gz", "h2.nii.gz"], ["h3.nii.gz", "h4.nii.gz"]]
    assert Path(content["training"][0]["label"]) == tmp_path / "msd_hippocampus" / "labels" / "h0.nii.gz"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")
def test_the_comparison_runs_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "VARIANTS", {"progressive": [], "final_only": ["variants/final_only.json"]})
    run = lambda: compare.Comparison(tmp_path, DATA, 1, (1, 1, 1), 4, (2, 1))()  # noqa: E731
    first = run()
    assert set(first) == {"teacher", "progressive", "final_only"}
    (tmp_path / "final_only_0" / "tuned" / "last.pt").unlink()
    monkeypatch.setattr(compare.Comparison, "_evaluate", lambda self, folder, network: {"folder": folder.parent.name})
    assert run()["final_only"] == [{"folder": "final_only_0"}]
    assert (tmp_path / "final_only_0" / "tuned" / "last.pt").exists()
